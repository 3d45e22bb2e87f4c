"""Bytes and halves from memory, widened, and a call through an address: for compiled code."""

from __future__ import annotations

from typing import Any

import numba
from llvmlite import ir
from numba import extending

types: Any = numba.types
_INT64 = ir.IntType(64)


def _loader(bits: int, widen: str) -> Any:
    """Return a function load(address, index): an int64 from a whole number of so many bits, widened by `widen`."""

    def load(typing_context: Any, address: Any, index: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            pointer = builder.inttoptr(arguments[0], ir.IntType(bits).as_pointer())
            return getattr(builder, widen)(builder.load(builder.gep(pointer, [arguments[1]])), _INT64)

        return types.int64(types.int64, types.int64), generate

    return extending.intrinsic(load)


load_signed_byte, load_byte, load_half = _loader(8, "sext"), _loader(8, "zext"), _loader(16, "zext")


@extending.intrinsic
def call_task(typing_context: Any, function: Any, task: Any) -> Any:
    """Call the C function `void function(int64 task)` at an address."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = ir.FunctionType(ir.VoidType(), [_INT64])
        builder.call(builder.inttoptr(arguments[0], kind.as_pointer()), [arguments[1]])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate
