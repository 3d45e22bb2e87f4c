"""64-bit words in memory that several processes share: how one says to another how far it has come.

A word only grows. Who sets it has stored all that belongs to it before (release); who sees the value sees that too
(acquire). A wait looks a few times, then offers its core, then sleeps in the kernel until the word is set: on a host
with as many workers as cores a wait that spins would take the time that the worker it waits for needs.
"""

from __future__ import annotations

import ctypes
import functools
import platform
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numpy.typing import NDArray

from kernels.compiler.call_table_run import read_count, write_count
from kernels.compiler.intrinsics import call_integer, intrinsic

types: Any = numba.types
WORD_BYTES = 8
LINE_BYTES = 64  # words that different processes set lie on lines of their own
_LOOKS, _OFFERS = 64, 64
_SLEEP_SECONDS = 0.005
"""The longest sleep of one call: the caller then looks whether the peer still lives."""
_FUTEX = {"x86_64": 202, "aarch64": 98, "riscv64": 98, "ppc64le": 221}
_WAIT, _WAKE, _EVERYBODY = 0, 1, 2**31 - 1
_OPTIONS: dict[str, Any] = {"cache": True, "nogil": True, "error_model": "numpy", "boundscheck": False}
_I64 = ir.IntType(64)


@intrinsic
def _system_call(typing_context: Any, function: Any, number: Any, word: Any, action: Any, value: Any, time: Any) -> Any:
    """Return what C's syscall(number, word, action, value, time, 0, 0) returns."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = ir.FunctionType(_I64, [_I64] * 7)
        zero = ir.Constant(_I64, 0)
        return builder.call(builder.inttoptr(arguments[0], kind.as_pointer()), [*arguments[1:], zero, zero])

    return types.int64(*[types.int64] * 6), generate


@numba.njit("int64(int64, int64, int64[::1])", **_OPTIONS)
def _wait(word: Any, goal: Any, system: Any) -> Any:
    """Return the word once it is `goal` or above, or what it is after some milliseconds."""
    for look in range(_LOOKS + _OFFERS):
        value = read_count(word)
        if value >= goal:
            return value
        if look >= _LOOKS:
            call_integer(system[0])
    if system[2] != 0:
        _system_call(system[1], system[2], word, _WAIT, value & 0xFFFFFFFF, system[3])
    return read_count(word)


@numba.njit("void(int64, int64, int64[::1])", **_OPTIONS)
def _set(word: Any, value: Any, system: Any) -> Any:
    """Set the word and wake those who sleep on it."""
    write_count(word, value)
    if system[2] != 0:
        _system_call(system[1], system[2], word, _WAKE, _EVERYBODY, 0)


@numba.njit("int64(int64)", **_OPTIONS)
def _read(word: Any) -> Any:
    return read_count(word)


@dataclass(frozen=True, slots=True)
class _System:
    table: NDArray[np.int64]  # addresses of sched_yield and syscall, futex's number, address of the time
    time: NDArray[np.int64]


@functools.cache
def _system() -> _System:
    library = ctypes.CDLL(None)
    address = [ctypes.cast(function, ctypes.c_void_p).value for function in (library.sched_yield, library.syscall)]
    time = np.array([0, round(_SLEEP_SECONDS * 1e9)], np.int64)
    number = _FUTEX.get(platform.machine(), 0)
    return _System(np.array([*address, number, time.ctypes.data], np.int64), time)


def wait_briefly(word: int, goal: int) -> int:
    """Return the word at this address once it is `goal` or above, else what it is after at most some milliseconds.

    The Python lock is free meanwhile. `set_word` ends the sleep at once; who writes otherwise is seen a bit later.
    """
    value: int = _wait(word, goal, _system().table)
    return value


def set_word(word: int, value: int) -> None:
    """Return nothing; set the word at this address after all that was stored before, and wake who waits for it."""
    _set(word, value, _system().table)


def read_word(word: int) -> int:
    """Return the word at this address; what was stored before it was set is seen afterwards."""
    value: int = _read(word)
    return value
