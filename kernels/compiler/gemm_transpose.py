"""A block of weights turned over in registers: columns that lie along k become rows of a panel.

Self-contained but for gemm_vector.py and intrinsics.py: an exported artifact carries them beside its kernels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numba
from llvmlite import ir
from numba import extending

from kernels.compiler.gemm_vector import FLOAT, INT32, Memory, Vectors

types: Any = numba.types


@extending.intrinsic(prefer_literal=True)
def gemm_transpose(
    typing_context: Any,
    b: Any,
    panel: Any,
    columns: Any,
    depth: Any,
    from_column: Any,
    to_k: Any,
    width: Any,
    read: Any,
    written: Any,
) -> Any:
    """Copy a block of B into a panel; b, panel: the addresses of its first element there. The rest are literals.

    columns, depth: each at most `width` lanes; missing columns become 0, missing depth is let alone.
    from_column: from column to column of B, whose k are adjacent; to_k: from k to k of the panel, whose columns are.
    read, written: the scopes of B and of the panel.
    """
    literals = (columns, depth, from_column, to_k, width, read, written)
    columns, depth, from_column, to_k, width, read, written = (each.literal_value for each in literals)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointers = [builder.inttoptr(address, FLOAT.as_pointer()) for address in arguments[:2]]
        source, target = Memory(pointers[0], read), Memory(pointers[1], written)
        vectors = Vectors(builder, width, True)
        rows = [vectors.load(source, vectors.index((n, from_column)), depth) for n in range(columns)]
        rows += [vectors.zero()] * (vectors.width - columns)
        for k, row in enumerate(transposed(builder, rows)[:depth]):
            vectors.store(target, vectors.index((k, to_k)), row, vectors.width)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, *literals), generate


def transposed(builder: Any, rows: Sequence[Any]) -> list[Any]:
    """Return the columns of as many vectors as each has lanes: a power of 2."""
    result, count = list(rows), len(rows)
    half = count // 2
    while half:
        # Swap the two off-diagonal quarters of every square of 2 * half.
        lower = [lane - half if lane & half else lane for lane in range(count)]
        lanes = [own + count if lane & half else own for lane, own in enumerate(lower)]
        for k in (k for k in range(count) if not k & half):
            pair = result[k], result[k + half]
            result[k] = _picked(builder, *pair, lanes)
            result[k + half] = _picked(builder, *pair, [lane + half for lane in lanes])
        half //= 2
    return result


def _picked(builder: Any, left: Any, right: Any, lanes: Sequence[int]) -> Any:
    chosen = ir.Constant(ir.VectorType(INT32, len(lanes)), [ir.Constant(INT32, lane) for lane in lanes])
    return builder.shuffle_vector(left, right, chosen)
