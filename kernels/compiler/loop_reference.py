"""A NumPy interpreter of loop programs: the oracle that the printed kernels are tested against."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from kernels.compiler.ir import ITEM_BYTES, IrError
from kernels.compiler.loop_ir import Apply, LoopProgram, Pack, Product, Term, Window
from kernels.compiler.loop_product import packed_bytes
from kernels.compiler.reference import evaluate

Memory = np.ndarray[Any, np.dtype[np.uint8]]


def evaluate_loop(program: LoopProgram, memories: Sequence[Memory]) -> None:
    """Return nothing; run the program on `memories`, the bytes of each buffer.

    Panels are kept as the plain factor that they stand for. Raises IrError if a memory does not fit its buffer.
    """
    for buffer, memory in zip(program.buffers, memories, strict=True):
        if memory.size != buffer.nbytes:
            raise IrError(f"buffer {buffer.name} needs {buffer.nbytes} bytes, its memory has {memory.size}")
    panels: dict[tuple[int, int], np.ndarray[Any, Any]] = {}
    for trip in range(-1, program.trips):
        for statement in program.prologue if trip < 0 else program.body:
            if isinstance(statement, Apply):
                _apply(statement, memories, trip)
            elif isinstance(statement, Pack):
                term, begin = statement.product.terms[statement.term], statement.out.begin(trip)
                factor = _right(memories, statement.product, replace(term, right=statement.source), trip)
                panels[statement.out.buffer, begin] = factor.copy()
                # What lies there otherwise is lost, as it is when panels are written.
                end = begin + packed_bytes(statement.product, statement.term)
                memories[statement.out.buffer][begin:end] = 0xFF
            else:
                _multiply(statement, memories, trip, panels)


def _typed(memories: Sequence[Memory], window: Window, trip: int, dtype: str) -> np.ndarray[Any, Any]:
    begin, item = window.begin(trip), ITEM_BYTES[dtype]
    memory = memories[window.buffer][begin:]
    return memory[: len(memory) // item * item].view(dtype)


def _apply(statement: Apply, memories: Sequence[Memory], trip: int) -> None:
    buffers = statement.region.buffers
    arrays = [_typed(memories, w, trip, b.dtype) for w, b in zip(statement.windows, buffers, strict=True)]
    evaluate(statement.region, arrays)


def _right(memories: Sequence[Memory], product: Product, term: Term, trip: int) -> np.ndarray[Any, Any]:
    shape = (term.depth, product.columns)
    return _matrix(memories, term.right, trip, product.dtype, shape, term.right_strides)


def _matrix(
    memories: Sequence[Memory],
    window: Window,
    trip: int,
    dtype: str,
    shape: tuple[int, int],
    strides: tuple[int, int],
) -> np.ndarray[Any, Any]:
    flat = _typed(memories, window, trip, dtype)
    return as_strided(flat, shape, tuple(stride * ITEM_BYTES[dtype] for stride in strides))


def _multiply(
    product: Product,
    memories: Sequence[Memory],
    trip: int,
    panels: dict[tuple[int, int], np.ndarray[Any, Any]],
) -> None:
    shape = (product.rows, product.columns)
    total = np.zeros(shape)
    for term in product.terms:
        size = (product.rows, term.depth)
        left = _matrix(memories, term.left, trip, product.dtype, size, term.left_strides)
        if term.packed:
            right = panels[term.right.buffer, term.right.begin(-1)]
        else:
            right = _right(memories, product, term, trip)
        with np.errstate(all="ignore"):
            total += left.astype(np.float64) @ right.astype(np.float64)
    out = _matrix(memories, product.out, trip, product.dtype, shape, (product.out_stride, 1))
    with np.errstate(all="ignore"):
        out[...] = total
