"""A NumPy interpreter of loop programs: the oracle that the printed kernels are tested against."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from kernels.compiler.ir import FLOATING, ITEM_BYTES, IrError
from kernels.compiler.loop_ir import Apply, LoopProgram, Pack, Product, Term, Window, parts
from kernels.compiler.loop_product import packed_bytes
from kernels.compiler.reference import evaluate

Memory = np.ndarray[Any, np.dtype[np.uint8]]


class ExactMemory:
    """Bytes whose floating values are kept in float64: what is stored as float32 is not rounded.

    There is a copy for each dtype that lies in them: what is read as one dtype must have been written as that one.
    """

    def __init__(self, memory: Memory) -> None:
        self.size = memory.size
        self._bytes = memory.copy()
        self._typed: dict[str, np.ndarray[Any, Any]] = {}

    def typed(self, dtype: str) -> np.ndarray[Any, Any]:
        """Return the whole as elements of `dtype`, float64 for every floating one."""
        if dtype not in self._typed:
            item = ITEM_BYTES[dtype]
            values = self._bytes[: self.size // item * item].view(dtype)
            with np.errstate(all="ignore"):
                self._typed[dtype] = values.astype(np.float64 if dtype in FLOATING else dtype)
        return self._typed[dtype]


def evaluate_loop(program: LoopProgram, memories: Sequence[Memory | ExactMemory]) -> None:
    """Return nothing; run the program on `memories`, the bytes of each buffer.

    Panels are kept as the plain factor that they stand for. With ExactMemory every floating value is computed and
    kept in float64. Raises IrError if a memory does not fit its buffer.
    """
    for buffer, memory in zip(program.buffers, memories, strict=True):
        if memory.size != buffer.nbytes:
            raise IrError(f"buffer {buffer.name} needs {buffer.nbytes} bytes, its memory has {memory.size}")
    panels: dict[tuple[int, int], np.ndarray[Any, Any]] = {}
    for trip in range(-1, program.trips):
        statements = program.prologue if trip < 0 else program.body
        for statement in (part for whole in statements for part in parts(whole)):
            if isinstance(statement, Apply):
                _apply(statement, memories, trip)
            elif isinstance(statement, Pack):
                term, begin = statement.product.terms[statement.term], statement.out.begin(trip)
                factor = _right(memories, statement.product, replace(term, right=statement.source), trip)
                panels[statement.out.buffer, begin] = factor.copy()
                # What lies there otherwise is lost, as it is when panels are written.
                end = begin + packed_bytes(statement.product, statement.term)
                panel = memories[statement.out.buffer]
                if not isinstance(panel, ExactMemory):
                    panel[begin:end] = 0xFF
            else:
                _multiply(statement, memories, trip, panels)


def _typed(memories: Sequence[Memory | ExactMemory], window: Window, trip: int, dtype: str) -> np.ndarray[Any, Any]:
    begin, item = window.begin(trip), ITEM_BYTES[dtype]
    memory = memories[window.buffer]
    if isinstance(memory, ExactMemory):
        return memory.typed(dtype)[begin // item :]
    memory = memory[begin:]
    return memory[: len(memory) // item * item].view(dtype)


def _apply(statement: Apply, memories: Sequence[Memory | ExactMemory], trip: int) -> None:
    buffers = statement.region.buffers
    arrays = [_typed(memories, w, trip, b.dtype) for w, b in zip(statement.windows, buffers, strict=True)]
    evaluate(statement.region, arrays, exact=any(isinstance(memory, ExactMemory) for memory in memories))


def _right(memories: Sequence[Memory | ExactMemory], product: Product, term: Term, trip: int) -> np.ndarray[Any, Any]:
    shape = (term.depth, product.columns)
    return _matrix(memories, term.right, trip, product.dtype, shape, term.right_strides)


def _matrix(
    memories: Sequence[Memory | ExactMemory],
    window: Window,
    trip: int,
    dtype: str,
    shape: tuple[int, int],
    strides: tuple[int, int],
) -> np.ndarray[Any, Any]:
    flat = _typed(memories, window, trip, dtype)
    return as_strided(flat, shape, tuple(stride * flat.itemsize for stride in strides))


def _multiply(
    product: Product,
    memories: Sequence[Memory | ExactMemory],
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
