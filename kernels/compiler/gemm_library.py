"""A call of the BLAS function sgemm_ by its address, for products that are too large for tiles of our own.

Self-contained: an exported artifact carries this file beside its kernels. Whoever runs a kernel looks the address up in
a library of the process (torch exports MKL's sgemm_) and hands it in.
"""

from __future__ import annotations

from typing import Any

import numba
from llvmlite import ir
from numba import extending

types: Any = numba.types
_CHARACTER, _INTEGER, _FLOAT, _ADDRESS = ir.IntType(8), ir.IntType(32), ir.FloatType(), ir.IntType(64)


@extending.intrinsic
def call_sgemm(
    typing_context: Any,
    function: Any,
    a: Any,
    b: Any,
    c: Any,
    sizes: Any,
    strides: Any,
    transposed: Any,
    accumulate: Any,
) -> Any:
    """Set C [rows, columns], or add to it, A @ B: all row-major, by the Fortran function at an address.

    a, b, c: addresses; sizes: (rows, columns, depth); strides: of a row of A, of B, of C, in elements;
    transposed: (A lies as [depth, rows], B lies as [columns, depth]); accumulate: add to C. The integers of the
    library are 32 bits wide.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address, a, b, c, sizes, strides, transposed, accumulate = arguments
        rows, columns, depth = (builder.extract_value(sizes, k) for k in range(3))
        a_stride, b_stride, c_stride = (builder.extract_value(strides, k) for k in range(3))
        a_flag, b_flag = (_letter(builder, builder.extract_value(transposed, k)) for k in range(2))
        one, zero = ir.Constant(_FLOAT, 1.0), ir.Constant(_FLOAT, 0.0)
        beta = builder.select(_truth(builder, accumulate), one, zero)
        # Fortran's matrices are column-major: it computes C' = B' A'.
        values = [b_flag, a_flag, columns, rows, depth, one, b, b_stride, a, a_stride, beta, c, c_stride]
        kind = ir.FunctionType(ir.VoidType(), [_ADDRESS] * len(values))
        pointers = (6, 8, 11)
        passed = [value if k in pointers else _slot(builder, value) for k, value in enumerate(values)]
        builder.call(builder.inttoptr(address, kind.as_pointer()), passed)
        return context.get_dummy_value()

    pair, triple = types.UniTuple(types.boolean, 2), types.UniTuple(types.int64, 3)
    address = types.int64
    return types.void(address, address, address, address, triple, triple, pair, types.boolean), generate


def _truth(builder: Any, flag: Any) -> Any:
    return builder.icmp_unsigned("!=", flag, ir.Constant(flag.type, 0))


def _letter(builder: Any, flag: Any) -> Any:
    """Return "T" where the flag is set, else "N"."""
    letters = (ir.Constant(_CHARACTER, ord(letter)) for letter in "TN")
    return builder.select(_truth(builder, flag), *letters)


def _slot(builder: Any, value: Any) -> Any:
    """Return the address of a value on the stack: Fortran takes everything by reference."""
    if value.type == _ADDRESS:
        value = builder.trunc(value, _INTEGER)
    with builder.goto_entry_block():
        slot = builder.alloca(value.type)
    builder.store(value, slot)
    return builder.ptrtoint(slot, _ADDRESS)
