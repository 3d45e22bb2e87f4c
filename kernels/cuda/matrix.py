"""Products of small matrices by the 32 lanes of a warp together, on the tensor cores; in the simulator too.

    mma_int8(a0, a1, a2, a3, b0, b1, c0, c1, c2, c3) -> 4 int32

adds the product of int8 A [16, 32] and uint8 B [32, 8] to int32 C [16, 8], exact (it wraps beyond 32 bits). With
g = lane >> 2 and t = lane & 3, four bytes a uint32, a lane brings A's rows g (a0, a2) and g + 8 (a1, a3) and B's column
g (b0, b1), each from depth 4 t on and from 16 + 4 t on; it holds C's row g (c0, c1) and g + 8 (c2, c3) in the columns
2 t and 2 t + 1. Whole warps only; all lanes must call it. Source: PTX ISA, mma.m16n8k32 for 8-bit integers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir

from kernels.cuda.threads import RunningKernel

_WORD = ir.IntType(32)
_SUMS = 4
_PTX = (
    "mma.sync.aligned.m16n8k32.row.col.s32.s8.u8.s32 "
    "{$0, $1, $2, $3}, {$4, $5, $6, $7}, {$8, $9}, {$10, $11, $12, $13};"
)
_CONSTRAINTS = ",".join(["=r"] * _SUMS + ["r"] * 10)


def device_matrix(intrinsic: Callable[..., Any], types: Any) -> dict[str, Any]:
    """Return the functions by name for the CUDA target; compute capability 8.0 or later."""
    word, number = types.uint32, types.int32
    wanted = (*[word] * 6, *[number] * _SUMS)

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        results = ir.LiteralStructType([_WORD] * _SUMS)
        assembly = ir.InlineAsm(ir.FunctionType(results, [_WORD] * len(wanted)), _PTX, _CONSTRAINTS)
        found = builder.call(assembly, list(arguments), attrs=("convergent",))
        values = [builder.extract_value(found, k) for k in range(_SUMS)]
        return context.make_tuple(builder, signature.return_type, values)

    @intrinsic
    def mma_int8(typing_context, a0, a1, a2, a3, b0, b1, c0, c1, c2, c3):  # type: ignore[no-untyped-def]
        if (a0, a1, a2, a3, b0, b1, c0, c1, c2, c3) != wanted:
            return None
        return types.UniTuple(number, _SUMS)(*wanted), emit

    return {"mma_int8": mma_int8}


def simulated_matrix() -> dict[str, Callable[..., Any]]:
    """Return the functions by name for the simulator, whose `warp_values` shows each lane what the others bring."""
    cuda: Any = RunningKernel()

    def mma_int8(a0, a1, a2, a3, b0, b1, c0, c1, c2, c3):  # type: ignore[no-untyped-def]
        _require_types((a0, a1, a2, a3, b0, b1), np.uint32)
        _require_types((c0, c1, c2, c3), np.int32)
        lane = int(cuda.threadIdx.x) & 31
        brought = cuda.warp_values((a0, a1, a2, a3, b0, b1))
        row, pair = lane >> 2, lane & 3
        weights = [_rows(brought, row, first) for first in (0, 1)]
        inputs = [_column(brought, 2 * pair + k) for k in (0, 1)]
        sums = [int(np.dot(weights[k >> 1], inputs[k & 1])) for k in range(_SUMS)]
        return tuple(_wrapped(int(c) + total) for c, total in zip((c0, c1, c2, c3), sums, strict=True))

    return {"mma_int8": mma_int8}


def _rows(brought: dict[int, Any], row: int, first: int) -> Any:
    """Return the 32 int8 of A's row `row` (first 0) or `row` + 8 (first 1)."""
    words = [brought[4 * row + t][first + half] for half in (0, 2) for t in range(4)]
    return np.array(words, "<u4").view(np.int8).astype(np.int64)


def _column(brought: dict[int, Any], column: int) -> Any:
    words = [brought[4 * column + t][4 + half] for half in (0, 1) for t in range(4)]
    return np.array(words, "<u4").view(np.uint8).astype(np.int64)


def _wrapped(number: int) -> Any:
    return np.array(number & 0xFFFFFFFF, np.uint32).view(np.int32)[()]


def _require_types(values: tuple[Any, ...], kind: type) -> None:
    for value in values:
        if not isinstance(value, kind):
            raise TypeError(f"mma_int8 takes {kind.__name__} here, not {type(value).__name__}")
