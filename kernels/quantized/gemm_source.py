"""Prints a product of quantized weights with a small batch as a Numba-CUDA kernel, and as one host thread runs it.

A warp takes 16 rows of weights and the whole batch, on the tensor cores. The sum over columns may be taken in any
order, as long as weights and inputs agree: a lane loads a vector of weights with one access, and multiplies its words
as they lie, so that nothing is rearranged. While the warp works on one chunk, the next one's weights are on their way.
Where there are few rows, several warps of a block share them, chunk by chunk. Results pass through shared memory, from
where lanes finish them one after another: the epilogue is in the code once.
"""

from __future__ import annotations

from dataclasses import dataclass

from kernels.cuda.kernel import THREADS_PER_BLOCK, KernelSource
from kernels.quantized.gemm_shape import BATCH_TILE, CHUNK_VECTORS, ROW_TILE, SmallGemm
from kernels.quantized.packing import WORDS_PER_VECTOR
from kernels.quantized.product import CENTROIDS, ProductError
from kernels.quantized.steps import indent, plus

ENTRY = "quantized_gemm"
FORMS = ("wide", "scalar")
WARP = 32
LARGEST_BLOCK_WARPS = THREADS_PER_BLOCK // WARP
WARPS_PER_TILE = (1, 2, 4, LARGEST_BLOCK_WARPS)
RESULTS = 4  # of a lane, for each tile of the batch
_ACTIVATIONS = {
    "none": "value",
    "relu": "select(value < float32(0.0), float32(0.0), value)",
    "gelu": "float32(0.5) * value * (float32(1.0) + erf_float32(value * float32(0.7071067811865476)))",
    "gelu_tanh": "float32(0.5) * value * (float32(1.0) + tanh_float32(float32(0.7978845608028654) * "
    "(value + float32(0.044715) * value * value * value)))",
    "silu": "value * sigmoid_float32(value)",
}


def print_gemm(product: SmallGemm, warps_per_tile: int = 1) -> dict[str, KernelSource]:
    """Return the product's kernel by form: "wide" with 128-bit accesses, "scalar" for addresses that are not aligned.

    The number behind the addresses is the batch. warps_per_tile: one of WARPS_PER_TILE, the warps of a block that share
    16 rows; a block of a launch has whole warps, a multiple of as many and at most 256 threads.
    Raises ProductError for another number of warps.
    """
    if warps_per_tile not in WARPS_PER_TILE:
        raise ProductError(f"{warps_per_tile} warps for 16 rows; use one of {', '.join(map(str, WARPS_PER_TILE))}")
    return {form: _source(_Printer(product, warps_per_tile, form == "wide")) for form in FORMS}


def _source(printer: _Printer) -> KernelSource:
    product, operands = printer.product, printer.product.operands()
    head = f"def {ENTRY}({', '.join(operand.name for operand in operands)}, batch):"
    return KernelSource(
        entry=ENTRY,
        text="\n".join([head, *indent(printer.device_lines()), ""]),
        host_text="\n".join([head, *indent(printer.host_lines()), ""]),
        alignment=tuple(operand.alignment if printer.wide else 4 for operand in operands),
        work_items=product.row_tiles * printer.parts * WARP,
        scalars=1,
        threads=THREADS_PER_BLOCK,
    )


@dataclass(frozen=True, slots=True)
class _Printer:
    product: SmallGemm
    parts: int
    wide: bool

    @property
    def _codebook(self) -> bool:
        return self.product.weights == "codebook"

    @property
    def _slots(self) -> int:
        """Return the results of a warp in shared memory."""
        return RESULTS * WARP * self.product.tiles

    def device_lines(self) -> list[str]:
        """Return the body as the device and the simulator run it."""
        lines = ["lane = int64(cuda.threadIdx.x & 31)", "warp = int64(cuda.threadIdx.x >> 5)"]
        lines += ["warps = int64(cuda.blockDim.x >> 5)", "line = lane >> 2", "quarter = lane & 3"]
        lines += [f"results = cuda.shared.array({LARGEST_BLOCK_WARPS * self._slots}, int32)"]
        lines += [f"part = warp % {self.parts}", f"slots = warps // {self.parts}"]
        words, vector_words = self.product.bytes.words, self.product.bytes.vector_words
        for tile in range(self.product.tiles):
            # A vector behind the last is computed as the last one, but not stored.
            member = f"min({plus('line', BATCH_TILE * tile)}, batch - 1)"
            lines.append(f"x{tile} = {words} * {member} + {vector_words} * quarter")
        body = [*self._rows(), *self._sums(), *self._kept(), self._wait(), *self._finish(), self._wait()]
        body.append("base += int64(cuda.gridDim.x) * slots")
        lines += ["base = int64(cuda.blockIdx.x) * slots", f"while base < {self.product.row_tiles}:", *indent(body)]
        return lines

    def host_lines(self) -> list[str]:
        """Return the body as one host thread runs it: result by result, the exact sums in another order."""
        product, vector_words = self.product, self.product.bytes.vector_words
        word = f"read_uint32(weights, {product.packing.words} * row + word)"
        dots = []
        for number, text in enumerate(self._looked_up("word_of_row", 0)):
            place = f"{product.bytes.words} * m + {vector_words // WORDS_PER_VECTOR} * word"
            dots.append(f"total = dot_int8_uint8x4({text}, read_uint32(x, {plus(place, number)}), total)")
        sums = [f"word_of_row = {word}", *dots]
        a_row = ["total = int32(0)", f"for word in range({product.packing.words}):", *indent(sums), *self._epilogue()]
        body = [*self._table(0, "row"), "for m in range(batch):", *indent(a_row)]
        return [f"for row in range({product.rows}):", *indent(body)]

    def _rows(self) -> list[str]:
        """Return the lines that set a lane's two rows; one behind the last is computed as the last one."""
        last, words = self.product.rows - 1, self.product.packing.words
        lines = [f"first = {ROW_TILE} * (base + warp // {self.parts}) + line"]
        for number in range(2):
            row = f"min({plus('first', BATCH_TILE * number)}, {last})"
            lines += [f"w{number} = {words} * {row}", *self._table(number, row)]
        return lines

    def _table(self, number: int, row: str) -> list[str]:
        if not self._codebook:
            return []
        place = f"{CENTROIDS // 4} * {row}" if self.product.scope == "row" else "0"
        return [f"t{number} = {self._four('read', 'tables', place)}"]

    def _sums(self) -> list[str]:
        """Return the lines for a warp's sums over its chunks; the next chunk is loaded before one is worked on."""
        chunks, step = self.product.bytes.chunks, CHUNK_VECTORS * self.product.bytes.vector_words
        tiles = range(self.product.tiles)
        lines = [f"c{tile}_{k} = int32(0)" for tile in tiles for k in range(RESULTS)]
        lines += ["chunk = part", *self._load("chunk", "q")]
        body = [f"ahead = chunk + {self.parts}", *self._load("ahead", "n"), f"place = {step} * chunk"]
        body += [*self._multiplied(), "q0 = n0", "q1 = n1", "chunk = ahead"]
        return [*lines, f"while chunk < {chunks}:", *indent(body)]

    def _load(self, chunk: str, name: str) -> list[str]:
        # Behind the last vector: the inputs there are zeros, whatever is multiplied by them.
        vector = f"min({CHUNK_VECTORS} * {chunk} + quarter, {self.product.packing.vectors - 1})"
        lines = [f"vector = {WORDS_PER_VECTOR} * {vector}"]
        return lines + [f"{name}{row} = {self._four('stream', 'weights', f'w{row} + vector')}" for row in range(2)]

    def _multiplied(self) -> list[str]:
        """Return the lines that add a chunk's products: 32 columns an instruction, two words of each row."""
        lines = []
        for row in range(2):
            words = [text for k in range(WORDS_PER_VECTOR) for text in self._looked_up(f"q{row}[{k}]", row)]
            lines += [f"a{row}_{k} = {text}" for k, text in enumerate(words)]
        vector_words = self.product.bytes.vector_words
        for tile in range(self.product.tiles):
            for first in range(0, vector_words, WORDS_PER_VECTOR):
                lines.append(f"b{first} = {self._four('read', 'x', plus(f'x{tile} + place', first))}")
            for k in range(0, vector_words, 2):
                vector, word = f"b{k // WORDS_PER_VECTOR * WORDS_PER_VECTOR}", k % WORDS_PER_VECTOR
                totals = ", ".join(f"c{tile}_{number}" for number in range(RESULTS))
                weights = f"a0_{k}, a1_{k}, a0_{k + 1}, a1_{k + 1}"
                lines.append(f"{totals} = mma_int8({weights}, {vector}[{word}], {vector}[{word + 1}], {totals})")
        return lines

    def _looked_up(self, word: str, row: int) -> list[str]:
        """Return the words of bytes that a word of weights stands for."""
        if not self._codebook:
            return [word]
        return [f"{half}_codebook_bytes(t{row}, {word})" for half in ("low", "high")]

    def _kept(self) -> list[str]:
        numbers = [(tile, k) for tile in range(self.product.tiles) for k in range(RESULTS)]
        return [f"results[{self._slots} * warp + {WARP * (RESULTS * t + k)} + lane] = c{t}_{k}" for t, k in numbers]

    def _finish(self) -> list[str]:
        """Return the lines by which the warps of a tile finish its results in turns."""
        place = f"{self._slots} * (warp - part) + {WARP} * number + lane"
        lines = [f"total = results[{place}]"]
        for part in range(1, self.parts):
            lines.append(f"total = int32(total + results[{place} + {self._slots * part}])")
        lines += [f"row = first + {BATCH_TILE} * ((number >> 1) & 1)"]
        lines += [f"m = {BATCH_TILE} * (number >> 2) + 2 * quarter + (number & 1)"]
        lines += [f"if row < {self.product.rows} and m < batch:", *indent(self._epilogue()), f"number += {self.parts}"]
        return ["number = part", f"while number < {RESULTS * self.product.tiles}:", *indent(lines)]

    def _epilogue(self) -> list[str]:
        """Return the lines that store the result of `total`, of `row` and m."""
        lines = ["total = int32(total - read_int32(x_zeros, m) * read_int32(sums, row))"]
        lines += ["scale = read_float32(x_scales, m) * read_float32(scales, row)"]
        if self.product.bias:
            lines.append("value = fma_float32(float32(total), scale, read_float32(bias, row))")
        else:
            lines.append("value = float32(total) * scale")
        activated = _ACTIVATIONS[self.product.activation]
        return [*lines, f"store_float32(y, {self.product.rows} * m + row, {activated})"]

    def _four(self, verb: str, array: str, place: str) -> str:
        if self.wide:
            return f"{verb}_uint32x4({array}, {place})"
        return "(" + ", ".join(f"{verb}_uint32({array}, {plus(place, k)})" for k in range(WORDS_PER_VECTOR)) + ")"

    def _wait(self) -> str:
        return "cuda.syncthreads()" if self.parts > 1 else "cuda.syncwarp()"
