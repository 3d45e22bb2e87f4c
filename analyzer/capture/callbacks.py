"""torch's own callbacks around ops, reached through the functions that its library exports."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import torch

# Ops, autograd's nodes, TorchScript, custom classes, and ranges that the user opened; the others mark build features
# and interpreters that no installed torch runs.
SCOPES = (0, 1, 2, 4, 7)
# What nearly all of them are: each further scope is sampled apart, whenever autograd goes on to its next node.
CALLS = (0, 1)
_ADD = "_ZN2at17addGlobalCallbackENS_22RecordFunctionCallbackE"
_REMOVE = "_ZN2at14removeCallbackEm"
_DISABLE = "_ZN2at15disableCallbackEm"
_REENABLE = "_ZN2at16reenableCallbackEm"
_NAME = "_ZNK2at14RecordFunction4nameEv"
SYMBOLS = (_ADD, _REMOVE, _DISABLE, _REENABLE, _NAME)


class Callback(ctypes.Structure):
    """torch's RecordFunctionCallback, as torch 2.11 to 2.13 declare it in ATen/record_function.h."""

    _fields_ = (
        ("start", ctypes.c_void_p),
        ("end", ctypes.c_void_p),
        ("sampling_probability", ctypes.c_double),
        ("scopes", ctypes.c_bool * 10),
        ("needs_inputs", ctypes.c_bool),
        ("needs_outputs", ctypes.c_bool),
        ("needs_ids", ctypes.c_bool),
    )


@functools.cache
def library() -> ctypes.CDLL:
    """Return torch's library of ops. Raises OSError where it is not in its usual place."""
    return ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"))


def missing_symbols() -> list[str]:
    """Return the functions that we need and that torch's library does not export."""
    return [symbol for symbol in SYMBOLS if not hasattr(library(), symbol)]


def addresses() -> tuple[tuple[str, int], ...]:
    """Return name and address of the functions that the machine code calls."""
    standard = ctypes.CDLL(None)
    functions = {
        "name": library()[_NAME],
        "disable": library()[_DISABLE],
        "reenable": library()[_REENABLE],
        "strcmp": standard["strcmp"],
        "strlen": standard["strlen"],
    }
    return tuple((name, ctypes.cast(function, ctypes.c_void_p).value or 0) for name, function in functions.items())


def add(start: int, end: int | None, scopes: Collection[int], probability: float = 1.0) -> int:
    """Return the handle of a callback that is called around ops of every thread; it is disabled at first."""
    callback = Callback(start, end, probability)
    for scope in scopes:
        callback.scopes[scope] = True
    function = library()[_ADD]
    function.argtypes, function.restype = [Callback], ctypes.c_uint64
    handle = int(function(callback))
    disable(handle)
    return handle


def disable(handle: int) -> None:
    """Let a callback not be called."""
    _by_handle(_DISABLE)(handle)


def enable(handle: int) -> None:
    """Let a callback be called again."""
    _by_handle(_REENABLE)(handle)


def remove(handle: int) -> None:
    """Take a callback away."""
    _by_handle(_REMOVE)(handle)


@functools.cache
def _by_handle(symbol: str) -> Callable[[int], Any]:
    function = library()[symbol]
    function.argtypes, function.restype = [ctypes.c_uint64], None
    return function
