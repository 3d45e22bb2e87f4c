"""The pack family's cases: float32 tensors into a staging buffer, and back."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from kernels.transfer import bfloat16 as pack_bfloat16
from kernels.transfer import int8 as pack_int8
from kernels.transfer import pack
from kernels.transfer.pack import Format, PackPlan
from kernels.transfer.segment_table import arena_offsets
from tests.cuda.case import POISON, SPECIALS, Arrays, Bounds, BufferUse, Case, Problem
from tests.cuda.gather_cases import spread, table_buffer

COUNTS = (0, 1, 7, 16, 33, 100)
WHOLE_WARPS = ((1, 32), (2, 64), (3, 32))


def packed_bfloat16(values: np.ndarray) -> np.ndarray:
    """Return a packed tensor as bytes; the rest of its last 16 bytes is zeros."""
    codes = pack_bfloat16.reference(values).view(np.uint8)
    return np.concatenate([codes, np.zeros(-codes.size % 16, np.uint8)])


def packed_int8(values: np.ndarray) -> np.ndarray:
    """Return a packed tensor as bytes; the codes end with zeros up to a multiple of 4, then untouched bytes."""
    codes, scales = pack_int8.reference(values)
    padded = np.full(pack_int8.scales_offset(codes.size), POISON, np.uint8)
    padded[: -(-codes.size // 4) * 4] = 0
    padded[: codes.size] = codes.view(np.uint8)
    return np.concatenate([padded, scales.view(np.uint8)])


def unpacked_int8(packed: np.ndarray, elements: int) -> np.ndarray:
    """Return the float32 values of a packed tensor."""
    start = pack_int8.scales_offset(elements)
    groups = -(-elements // pack_int8.GROUP_ELEMENTS)
    scales = packed[start : start + 4 * groups].copy().view(np.float32)
    return pack_int8.unpack_reference(packed[:elements].view(np.int8), scales).astype(np.float32)


def unpacked_bfloat16(packed: np.ndarray, elements: int) -> np.ndarray:
    """Return the float32 values of a packed tensor."""
    return pack_bfloat16.unpack_reference(packed[: 2 * elements].copy().view(np.uint16))


PACKED = {"bfloat16": packed_bfloat16, "int8": packed_int8}
UNPACKED = {"bfloat16": unpacked_bfloat16, "int8": unpacked_int8}


def drawn(random: np.random.Generator, elements: int) -> np.ndarray:
    """Return numbers of very different magnitudes, groups of them, with NaN, infinities and zeros among some."""
    scales = np.repeat(10.0 ** random.integers(-40, 38, -(-elements // 512)), 512)[:elements]
    with np.errstate(over="ignore"):
        values = (scales * random.standard_normal(elements)).astype(np.float32)
    places = random.permutation(elements)[: elements // 300]
    values[places] = random.choice(np.array(SPECIALS, np.float32), places.size)
    return values


def elements_of(size: int) -> tuple[int, ...]:
    """Return the tensors' elements: one large tensor among small, odd and empty ones."""
    return (*COUNTS, size, *(1 + k % 9 for k in range(size % 20)))


def packing(form: Format, counts: Sequence[int], step: int) -> Problem:
    """Return tensors that lie at multiples of `step` bytes, packed."""
    plan, source_bytes = _plan(form, counts, step)

    def expected(arrays: Arrays) -> Sequence[np.ndarray]:
        staging = arrays[2].copy()
        for address, offset, count in zip(plan.addresses, plan.offsets, counts, strict=True):
            values = arrays[1][address : address + 4 * count].copy().view(np.float32)
            packed = PACKED[form.name](values)
            staging[offset : offset + packed.size] = packed
        return plan.pack_table(), arrays[1], staging

    buffers = (
        table_buffer(plan.pack_table()),
        BufferUse("sources", "uint8", source_bytes, True, fill=lambda r: drawn(r, source_bytes // 4).view(np.uint8)),
        BufferUse("staging", "uint8", plan.staging_bytes, drawn=False),
    )
    grids = WHOLE_WARPS if form is pack.INT8 else Problem.grids
    return Problem(buffers, {"float32": form.pack}, expected, grids=grids)


def unpacking(form: Format, counts: Sequence[int], step: int) -> Problem:
    """Return the same tensors, unpacked; what is between them stays as it was."""
    plan, destination_bytes = _plan(form, counts, step)

    def fill(random: np.random.Generator) -> np.ndarray:
        staging = np.zeros(plan.staging_bytes, np.uint8)
        for offset, count in zip(plan.offsets, counts, strict=True):
            packed = PACKED[form.name](drawn(random, count))
            staging[offset : offset + packed.size] = packed
        return staging

    def expected(arrays: Arrays) -> Sequence[np.ndarray]:
        result = arrays[2].copy()
        for address, offset, count in zip(plan.addresses, plan.offsets, counts, strict=True):
            values = UNPACKED[form.name](arrays[1][offset:], count)
            result[address : address + 4 * count] = values.view(np.uint8)
        return plan.unpack_table(), arrays[1], result

    buffers = (
        table_buffer(plan.unpack_table()),
        BufferUse("staging", "uint8", plan.staging_bytes, drawn=True, fill=fill),
        BufferUse("destinations", "uint8", destination_bytes, drawn=False),
    )
    return Problem(buffers, {"float32": form.unpack}, expected)


def _plan(form: Format, counts: Sequence[int], step: int) -> tuple[PackPlan, int]:
    sizes = [4 * count for count in counts]
    places, end = spread(sizes, step, gap=4) if step < 16 else arena_offsets(sizes)
    return PackPlan.of(form, places, sizes), end


Build = Callable[[Format, Sequence[int], int], Problem]


def _case(name: str, build: Build, form: Format, step: int, sizes: tuple[int, ...], bounds: Bounds) -> Case:
    def problem(size: int) -> Problem:
        return build(form, elements_of(size), step)

    return Case(f"{name}-{form.name}", problem, sizes, 1_000_003, {"float32": bounds})


SMALL, GROUPS = (1, 37, 200, 301), (1, 37, 1024, 2309)
CASES = (
    _case("pack-aligned", packing, pack.BFLOAT16, 16, SMALL, Bounds(48, 4, 2)),
    _case("pack", packing, pack.BFLOAT16, 4, SMALL, Bounds(48, 4, 2)),
    _case("unpack-aligned", unpacking, pack.BFLOAT16, 16, SMALL, Bounds(48, 4, 4)),
    _case("unpack", unpacking, pack.BFLOAT16, 4, SMALL, Bounds(48, 4, 4)),
    _case("pack-aligned", packing, pack.INT8, 16, GROUPS, Bounds(80, 8, 0)),
    _case("pack", packing, pack.INT8, 4, GROUPS, Bounds(80, 8, 0)),
    _case("unpack-aligned", unpacking, pack.INT8, 16, SMALL, Bounds(48, 0, 4)),
    _case("unpack", unpacking, pack.INT8, 4, GROUPS, Bounds(48, 0, 4)),
)
