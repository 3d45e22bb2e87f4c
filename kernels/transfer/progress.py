"""Driving a communication library whose calls are C functions: many calls at a time, without the Python lock."""

from __future__ import annotations

from typing import Any

import numba
from llvmlite import ir

from kernels.compiler.call_table_run import read_count
from kernels.compiler.intrinsics import intrinsic

types: Any = numba.types
_OPTIONS: dict[str, Any] = {"cache": True, "nogil": True, "error_model": "numpy", "boundscheck": False}
_I8, _I32, _I64 = ir.IntType(8), ir.IntType(32), ir.IntType(64)
IN_PROGRESS = 1


@intrinsic
def _call(typing_context: Any, function: Any, argument: Any) -> Any:
    """Return what the C function `int function(void *)` at the address returns."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = builder.inttoptr(arguments[0], ir.FunctionType(_I32, [_I64]).as_pointer())
        return builder.sext(builder.call(pointer, [arguments[1]]), _I64)

    return types.int64(types.int64, types.int64), generate


@intrinsic
def _status(typing_context: Any, function: Any, argument: Any) -> Any:
    """Return what the C function `int8_t function(void *)` at the address returns."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = builder.inttoptr(arguments[0], ir.FunctionType(_I8, [_I64]).as_pointer())
        return builder.sext(builder.call(pointer, [arguments[1]]), _I64)

    return types.int64(types.int64, types.int64), generate


@numba.njit("int64(int64, int64, int64, int64, int64)", **_OPTIONS)
def progress_until(advance: Any, worker: Any, word: Any, goal: Any, rounds: Any) -> Any:
    """Return the word at `word` once it is `goal` or above, or after `rounds` calls of `advance(worker)`."""
    idle = 0
    while read_count(word) < goal and idle < rounds:
        if _call(advance, worker) == 0:
            idle += 1
        else:
            idle = 0
    return read_count(word)


@numba.njit("int64(int64, int64, int64, int64, int64)", **_OPTIONS)
def progress_request(advance: Any, worker: Any, check: Any, request: Any, rounds: Any) -> Any:
    """Return `check(request)` once it is not IN_PROGRESS, or after `rounds` idle calls of `advance(worker)`."""
    idle = 0
    status = _status(check, request)
    while status == IN_PROGRESS and idle < rounds:
        if _call(advance, worker) == 0:
            idle += 1
        else:
            idle = 0
        status = _status(check, request)
    return status


@numba.njit("int64(int64, int64, int64)", **_OPTIONS)
def progress_all(advance: Any, worker: Any, rounds: Any) -> Any:
    """Return how many calls of `advance(worker)` did something, made until so many in a row did nothing."""
    idle, done = 0, 0
    while idle < rounds:
        if _call(advance, worker) == 0:
            idle += 1
        else:
            idle = 0
            done += 1
    return done
