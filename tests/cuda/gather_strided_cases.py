"""The cases of tensors that are not contiguous: sliced, transposed, permuted, expanded."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from kernels.transfer import strided as gather_strided
from kernels.transfer.strided import StridedPlan, StridedTensor, view_of
from tests.cuda.case import Arrays, Bounds, BufferUse, Case, Problem
from tests.cuda.gather_cases import table_buffer

Build = Callable[[int], Sequence[StridedTensor]]


def contiguous(address: int, shape: tuple[int, ...], item_bytes: int) -> StridedTensor:
    """Return a contiguous tensor."""
    strides = tuple(item_bytes * int(np.prod(shape[axis + 1 :], dtype=int)) for axis in range(len(shape)))
    return StridedTensor(address, shape, strides, item_bytes)


def permuted(tensor: StridedTensor, axes: tuple[int, ...]) -> StridedTensor:
    """Return the tensor with its axes in another order."""
    shape, strides = (tuple(values[axis] for axis in axes) for values in (tensor.shape, tensor.strides))
    return StridedTensor(tensor.address, shape, strides, tensor.item_bytes)


def sliced(tensor: StridedTensor, axis: int, start: int, stop: int, step: int = 1) -> StridedTensor:
    """Return tensor[..., start:stop:step, ...]."""
    shape, strides = list(tensor.shape), list(tensor.strides)
    shape[axis], strides[axis] = len(range(start, stop, step)), strides[axis] * step
    address = tensor.address + start * tensor.strides[axis]
    return StridedTensor(address, tuple(shape), tuple(strides), tensor.item_bytes)


def columns(size: int) -> list[StridedTensor]:
    """Aligned columns of rows (one 128-bit access), such that end within one, odd ones, and every third element."""
    rows = contiguous(0, (size, 24), 4)
    return [
        sliced(rows, 1, 4, 12),
        sliced(rows, 1, 13, 20),
        sliced(contiguous(128 * size, (size, 8), 4), 1, 0, 6),
        sliced(contiguous(96 * size, (size, 7), 2), 1, 0, 7, 3),
        contiguous(96 * size + 16 * size, (size, 3), 1),
    ]


def transposes(size: int) -> list[StridedTensor]:
    """Transposed and permuted tensors of every element size."""
    places = np.cumsum([0, 8 * size * 3, 4 * size * 30, 2 * size * 6]).tolist()
    return [
        permuted(contiguous(places[0], (size, 3), 8), (1, 0)),
        permuted(contiguous(places[1], (2, size, 3, 5), 4), (2, 0, 3, 1)),
        permuted(contiguous(places[2], (size, 2, 3), 2), (2, 1, 0)),
        permuted(contiguous(places[3], (5, size), 1), (1, 0)),
        StridedTensor(0, (0, 3), (4, 4), 4),
    ]


def _span(tensors: Sequence[StridedTensor]) -> int:
    ends = [t.address + t.item_bytes + sum(e * s for e, s in zip(t.shape, t.strides, strict=True)) for t in tensors]
    return max(ends)


def gathered(tensors: Sequence[StridedTensor]) -> Problem:
    """Return the tensors gathered into an arena."""
    plan = StridedPlan.of(tensors)

    def expected(arrays: Arrays) -> Sequence[np.ndarray]:
        arena = arrays[2].copy()
        for tensor, offset in zip(plan.tensors, plan.offsets, strict=True):
            arena[offset : offset + tensor.bytes] = np.frombuffer(view_of(tensor, arrays[1]).tobytes(), np.uint8)
        return plan.gather_table(), arrays[1], arena

    return _problem(
        plan.gather_table(), ("tensors", _span(tensors)), ("arena", plan.arena_bytes), gather_strided.GATHER, expected
    )


def scattered(tensors: Sequence[StridedTensor]) -> Problem:
    """Return the tensors filled from an arena; what is between their elements stays."""
    plan = StridedPlan.of(tensors)

    def expected(arrays: Arrays) -> Sequence[np.ndarray]:
        memory = arrays[2].copy()
        for tensor, offset in zip(plan.tensors, plan.offsets, strict=True):
            view = view_of(tensor, memory)
            view[...] = arrays[1][offset : offset + tensor.bytes].copy().view(view.dtype).reshape(tensor.shape)
        return plan.scatter_table(), arrays[1], memory

    return _problem(
        plan.scatter_table(), ("arena", plan.arena_bytes), ("tensors", _span(tensors)), gather_strided.SCATTER, expected
    )


def _problem(
    table: np.ndarray,
    origin: tuple[str, int],
    target: tuple[str, int],
    kernel: object,
    expected: Callable[[Arrays], Sequence[np.ndarray]],
) -> Problem:
    buffers = (
        table_buffer(table),
        BufferUse(*(origin[0], "uint8", origin[1]), drawn=True, integers=(0, 256)),
        BufferUse(*(target[0], "uint8", target[1]), drawn=False),
    )
    return Problem(buffers, {"bytes": kernel}, expected)  # type: ignore[dict-item]


def _case(name: str, move: Callable[[Sequence[StridedTensor]], Problem], build: Build) -> Case:
    bounds = {"bytes": Bounds(72, 2, 2)}
    return Case(name, lambda size: move(build(size)), (1, 3, 9, 22), 4001, bounds)


CASES = (
    _case("gather-columns", gathered, columns),
    _case("gather-transposes", gathered, transposes),
    _case("scatter-columns", scattered, columns),
    _case("scatter-transposes", scattered, transposes),
)
