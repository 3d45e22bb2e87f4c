"""Rows of activations -> bytes with a scale and a zero point a row: a CUDA kernel, its CPU twin, its reference.

x = scale * (byte - zero), bytes 0 to 255. The range always holds 0, so that zero is a byte too and zeros stay exact;
the scale is NaN where a row holds NaN or an infinity. The arithmetic is that of the CPU's kernels (cpu_quantise.py):
a model gives the same bytes on both. Bytes lie in the order of the weights that they are multiplied with.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.cuda.kernel import THREADS_PER_BLOCK, KernelSource
from kernels.quantized.gemm_shape import ByteRows
from kernels.quantized.packing import GROUP, TILE_VECTORS
from kernels.quantized.product import Operand, ProductError
from kernels.quantized.steps import indent, plus

ENTRY = "activation_bytes"
FORMS = ("wide", "scalar")
INPUTS = ("float32", "float16", "bfloat16")
STEPS = 254.0  # of the range: one less than bytes have, so that rounding the zero point never leaves the byte
SMALLEST_SCALE = 1e-30
ROUND = 12582912.0  # 1.5 * 2^23: adding it leaves the nearest integer in the low bits
_WARPS = THREADS_PER_BLOCK // 32


@dataclass(frozen=True, slots=True)
class ActivationBytes:
    """Which rows become bytes. rows: how the bytes lie. inputs: the format of the activations."""

    rows: ByteRows
    inputs: str = "float32"

    def __post_init__(self) -> None:
        if self.inputs not in INPUTS:
            raise ProductError(f"inputs {self.inputs!r} cannot become bytes; use one of {', '.join(INPUTS)}")

    def operands(self, batch: int) -> tuple[Operand, ...]:
        """Return the kernel's arrays in its parameters' order, for so many rows."""
        item_bytes = 4 if self.inputs == "float32" else 2
        dtype = "float32" if self.inputs == "float32" else "uint16"
        return (
            Operand("x", dtype, batch * self.rows.columns, GROUP * item_bytes if self.has_whole_groups else item_bytes),
            Operand("bytes", "uint32", batch * self.rows.words, 4, written=True),
            Operand("scales", "float32", batch, 4, written=True),
            Operand("zeros", "int32", batch, 4, written=True),
        )

    @property
    def has_whole_groups(self) -> bool:
        """Return whether four neighbours that begin a group are always one aligned access."""
        return self.rows.columns % GROUP == 0


def print_bytes(shape: ActivationBytes) -> dict[str, KernelSource]:
    """Return the kernel by form: "wide" with accesses of four inputs, "scalar" for addresses that are not aligned.

    The number behind the addresses is the batch. A block takes a row at a time, with whole warps.
    """
    return {form: _source(_Printer(shape, form == "wide")) for form in FORMS}


def _source(printer: _Printer) -> KernelSource:
    operands = printer.shape.operands(1)
    head = f"def {ENTRY}({', '.join(operand.name for operand in operands)}, batch):"
    item_bytes = {"float32": 4, "uint16": 2, "uint32": 4, "int32": 4}
    return KernelSource(
        entry=ENTRY,
        text="\n".join([head, *indent(printer.device_lines()), ""]),
        host_text="\n".join([head, *indent(printer.host_lines()), ""]),
        alignment=tuple(o.alignment if printer.wide else item_bytes[o.dtype] for o in operands),
        work_items=THREADS_PER_BLOCK,
        scalars=1,
        threads=THREADS_PER_BLOCK,
    )


@dataclass(frozen=True, slots=True)
class _Printer:
    shape: ActivationBytes
    wide: bool

    def device_lines(self) -> list[str]:
        """Return the body as the device and the simulator run it."""
        lines = ["member = int64(cuda.threadIdx.x)", "threads = int64(cuda.blockDim.x)"]
        lines += [f"{name}s = cuda.shared.array({_WARPS}, float32)" for name in ("low", "high", "bad")]
        body = [f"start = {self.shape.rows.columns} * row", *self._extremes(), *self._met()]
        body += [*self._scale(), *self._stored(), "if member == 0:", *indent(self._results())]
        # The next row's extremes must not overwrite those that slower warps still read.
        body += ["cuda.syncthreads()", "row += int64(cuda.gridDim.x)"]
        return [*lines, "row = int64(cuda.blockIdx.x)", "while row < batch:", *indent(body)]

    def host_lines(self) -> list[str]:
        """Return the body as one host thread runs it."""
        body = [f"start = {self.shape.rows.columns} * row", *self._extremes()]
        body += [*self._scale(), *self._stored(), *self._results()]
        return ["member = 0", "threads = 1", "for row in range(batch):", *indent(body)]

    def _extremes(self) -> list[str]:
        """Return the lines for what one thread sees of a row: its extremes, and NaN where something is not finite."""
        columns = self.shape.rows.columns
        lines = ["low = float32(0.0)", "high = float32(0.0)", "bad = float32(0.0)"]
        whole = [*self._load("start + 4 * k"), *(line for i in range(GROUP) for line in _taken(f"v[{i}]"))]
        if columns >= GROUP:
            lines += ["k = member", f"while k < {columns // GROUP}:", *indent([*whole, "k += threads"])]
        if columns % GROUP:
            value = self._input(plus("start + k", columns - columns % GROUP))
            single = [f"value = {value}", *_taken("value"), "k += threads"]
            lines += ["k = member", f"while k < {columns % GROUP}:", *indent(single)]
        return lines

    def _met(self) -> list[str]:
        """Return the lines by which the threads of a block find the extremes of all."""
        lines = ["low = -warp_max(-low)", "high = warp_max(high)", "bad = warp_sum(bad)", "if member & 31 == 0:"]
        lines += indent([f"{name}s[member >> 5] = {name}" for name in ("low", "high", "bad")])
        others = ["low = select(lows[other] < low, lows[other], low)"]
        others += ["high = select(highs[other] > high, highs[other], high)", "bad = bad + bads[other]", "other += 1"]
        return [*lines, "cuda.syncthreads()", "other = int64(0)", "while other < threads >> 5:", *indent(others)]

    def _scale(self) -> list[str]:
        share = f"float32({1.0 / STEPS!r})"
        # Products rounded by themselves, as the CPU has them: a plain one could be drawn into the difference.
        lines = [f"{name}est = fma_float32({name}, {share}, float32(0.0))" for name in ("low", "high")]
        lines += ["scale = highest - lowest"]
        lines += [f"scale = select(scale > float32({SMALLEST_SCALE!r}), scale, float32({SMALLEST_SCALE!r}))"]
        lines += ["inverse = float32(1.0) / scale"]
        # Both roundings from the exact product: rounded apart, the lowest value could become -1.
        return [*lines, f"shifted = fma_float32(-low, inverse, float32({ROUND!r}))"]

    def _stored(self) -> list[str]:
        """Return the lines by which a thread stores its share of the row's words, padding included."""
        rows, packing = self.shape.rows, self.shape.rows.packing
        per_vector, tile_words = rows.vector_words, TILE_VECTORS * rows.vector_words
        body = [f"vector = k // {per_vector}", f"tile = vector // {TILE_VECTORS}"]
        if packing.last_vectors:
            last = f"int64({packing.last_vectors})"
            body.append(f"count = select(tile < {packing.full_tiles}, int64({TILE_VECTORS}), {last})")
        else:
            body.append(f"count = int64({TILE_VECTORS})")
        body += [f"group = k % {per_vector} * count + vector % {TILE_VECTORS}"]
        body += [f"column = {GROUP} * ({tile_words} * tile + group)", "word = int64(0)"]
        # Words behind the last vector of weights stay zeros.
        body += [f"if vector < {packing.vectors} and column + {GROUP} <= {rows.columns}:", *indent(self._whole_word())]
        rest = rows.columns % GROUP
        if rest:
            body += [f"if vector < {packing.vectors} and column == {rows.columns - rest}:", *indent(self._last(rest))]
        body += [f"store_uint32(bytes, {rows.words} * row + k, uint32(word))", "k += threads"]
        return ["k = member", f"while k < {rows.words}:", *indent(body)]

    def _whole_word(self) -> list[str]:
        return [*self._load("start + column"), *(_placed(f"v[{i}]", i) for i in range(GROUP))]

    def _last(self, rest: int) -> list[str]:
        return [_placed(self._input(plus("start + column", i)), i) for i in range(rest)]

    def _results(self) -> list[str]:
        zero = f"select(shifted == shifted, shifted - float32({ROUND!r}), float32(0.0))"
        return ["store_float32(scales, row, scale + bad)", f"store_int32(zeros, row, int32({zero}))"]

    def _load(self, place: str) -> list[str]:
        """Return the line that loads four neighbours into v."""
        inputs = self.shape.inputs
        if not self.wide or not self.shape.has_whole_groups:
            return [f"v = ({', '.join(self._input(plus(place, i)) for i in range(GROUP))})"]
        if inputs == "float32":
            return [f"v = read_float32x4(x, {place})"]
        if inputs == "bfloat16":
            return [f"v = bfloat16x4_to_float32(read_uint16x4(x, {place}))"]
        four = ", ".join(f"float16_to_float32(h[{i}])" for i in range(GROUP))
        return [f"h = read_uint16x4(x, {place})", f"v = ({four})"]

    def _input(self, place: str) -> str:
        if self.shape.inputs == "float32":
            return f"read_float32(x, {place})"
        return f"{self.shape.inputs}_to_float32(read_uint16(x, {place}))"


def _taken(value: str) -> list[str]:
    lines = [f"low = select({value} < low, {value}, low)", f"high = select({value} > high, {value}, high)"]
    return [*lines, f"bad = fma_float32({value}, float32(0.0), bad)"]


def _placed(value: str, number: int) -> str:
    byte = f"(int64(float32_to_bits(fma_float32({value}, inverse, shifted))) & 255)"
    return f"word = word | {byte} << {8 * number}" if number else f"word = word | {byte}"


def reference(shape: ActivationBytes, batch: int, x: NDArray[Any]) -> tuple[NDArray[Any], ...]:
    """Return (words, scales, zeros), flat, of flat activations as the kernel takes them, in NumPy."""
    rows = shape.rows
    values = _values(shape, x).reshape(batch, rows.columns)
    with np.errstate(all="ignore"):
        low, high = (np.asarray(f(values, 1, initial=0.0), np.float32) for f in (_lowest, _highest))
        share = np.float32(1.0 / STEPS)
        scale = high * share - low * share
        scale = np.where(scale > np.float32(SMALLEST_SCALE), scale, np.float32(SMALLEST_SCALE))
        inverse = np.float32(1.0) / scale
        shifted = _fma(-low, inverse, np.float32(ROUND))
        bits = _fma(values, inverse[:, None], shifted[:, None]).view(np.uint32)
        finite = np.isfinite(values).all(axis=1)
        zeros = np.where(np.isnan(shifted), np.float32(0), shifted - np.float32(ROUND)).astype(np.int32)
    stored = np.zeros((batch, 4 * rows.words), np.uint8)
    order = rows.packing.column_order()
    inside = order < rows.columns
    stored[:, : order.size][:, inside] = (bits & np.uint32(255)).astype(np.uint8)[:, order[inside]]
    return stored.ravel().view(np.uint32), np.where(finite, scale, np.float32(np.nan)), zeros


def _lowest(values: NDArray[Any], axis: int, initial: float) -> NDArray[Any]:
    return np.asarray(np.fmin.reduce(values, axis=axis, initial=np.float32(initial)))


def _highest(values: NDArray[Any], axis: int, initial: float) -> NDArray[Any]:
    return np.asarray(np.fmax.reduce(values, axis=axis, initial=np.float32(initial)))


def _fma(a: NDArray[Any], b: NDArray[Any] | np.float32, c: NDArray[Any] | np.float32) -> NDArray[np.float32]:
    # The product is exact in float64; the sum may be rounded twice, which differs from once in one case of 2^29.
    return np.asarray(a.astype(np.float64) * np.float64(b) + np.float64(c), np.float32)


def _values(shape: ActivationBytes, x: NDArray[Any]) -> NDArray[np.float32]:
    if shape.inputs == "float16":
        return x.view(np.float16).astype(np.float32)
    if shape.inputs == "bfloat16":
        return (x.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return x.astype(np.float32, copy=False)


def unpacked_bytes(rows: ByteRows, words: NDArray[np.uint32]) -> NDArray[np.uint8]:
    """Return the bytes [batch, columns], in the columns' order, of words [batch * rows.words]."""
    stored = words.view(np.uint8).reshape(-1, 4 * rows.words)
    order = rows.packing.column_order()
    found = np.zeros((len(stored), order.size), np.uint8)
    found[:, order] = stored[:, : order.size]
    return np.ascontiguousarray(found[:, : rows.columns])
