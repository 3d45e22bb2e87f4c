"""The part of libucp's C interface that one-sided transfers need, for ctypes.

Every structure starts with a mask of the fields that are filled in, which is how UCX keeps old callers working: the
layouts here hold for UCX 1.12 and later.
Source: ucp/api/ucp.h of UCX.
"""

from __future__ import annotations

import ctypes
from ctypes import POINTER, Structure, c_char_p, c_int, c_size_t, c_uint, c_uint32, c_uint64, c_void_p
from typing import Any, ClassVar

from optimizers.placement.transport.errors import TransportError

FEATURE_RMA, FEATURE_WAKEUP = 1 << 1, 1 << 4
THREADS_SERIALIZED = 1
CLOSE_FORCE = 1
IN_PROGRESS, BUSY = 1, -15
_ERRORS = 256  # a returned pointer within this many bytes below the top is an error's code


class Parameters(Structure):
    """ucp_params_t: features (mask 1) and the context's name (mask 256)."""

    _fields_: ClassVar[Any] = [
        ("field_mask", c_uint64),
        ("features", c_uint64),
        ("_unused", c_uint64 * 7),
        ("name", c_char_p),
        ("_last", c_uint64),
    ]


class WorkerParameters(Structure):
    """ucp_worker_params_t: the thread mode (mask 1)."""

    _fields_: ClassVar[Any] = [("field_mask", c_uint64), ("thread_mode", c_int), ("_unused", ctypes.c_uint8 * 188)]


class MapParameters(Structure):
    """ucp_mem_map_params_t: address (mask 1), length (2)."""

    _fields_: ClassVar[Any] = [
        ("field_mask", c_uint64),
        ("address", c_void_p),
        ("length", c_size_t),
        ("flags", c_uint),
        ("protection", c_uint),
        ("memory_type", c_int),
        ("_exported", c_void_p),
    ]


class EndpointParameters(Structure):
    """ucp_ep_params_t: the address of the peer's worker (mask 1)."""

    _fields_: ClassVar[Any] = [
        ("field_mask", c_uint64),
        ("address", c_void_p),
        ("_unused", c_uint64 * 11),
    ]


class RequestParameters(Structure):
    """ucp_request_param_t: flags (mask 16), the registered memory of the local side (mask 256)."""

    _fields_: ClassVar[Any] = [
        ("attribute_mask", c_uint32),
        ("flags", c_uint32),
        ("_unused", c_uint64 * 7),
        ("memory", c_void_p),
        ("_more", c_uint64 * 3),
    ]


_POINTER = POINTER(c_void_p)
_STATUS = ctypes.c_int8  # an enumeration packed into one byte; the rest of the register is not defined
_SIGNATURES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "ucp_get_version": (None, (POINTER(c_uint), POINTER(c_uint), POINTER(c_uint))),
    "ucp_config_read": (_STATUS, (c_char_p, c_char_p, _POINTER)),
    "ucp_config_modify": (_STATUS, (c_void_p, c_char_p, c_char_p)),
    "ucp_config_release": (None, (c_void_p,)),
    "ucp_init_version": (_STATUS, (c_uint, c_uint, POINTER(Parameters), c_void_p, _POINTER)),
    "ucp_cleanup": (None, (c_void_p,)),
    "ucp_worker_create": (_STATUS, (c_void_p, POINTER(WorkerParameters), _POINTER)),
    "ucp_worker_destroy": (None, (c_void_p,)),
    "ucp_worker_get_address": (_STATUS, (c_void_p, _POINTER, POINTER(c_size_t))),
    "ucp_worker_release_address": (None, (c_void_p, c_void_p)),
    "ucp_worker_get_efd": (_STATUS, (c_void_p, POINTER(c_int))),
    "ucp_worker_arm": (_STATUS, (c_void_p,)),
    "ucp_worker_progress": (c_uint, (c_void_p,)),
    "ucp_mem_map": (_STATUS, (c_void_p, POINTER(MapParameters), _POINTER)),
    "ucp_mem_unmap": (_STATUS, (c_void_p, c_void_p)),
    "ucp_rkey_pack": (_STATUS, (c_void_p, c_void_p, _POINTER, POINTER(c_size_t))),
    "ucp_rkey_buffer_release": (None, (c_void_p,)),
    "ucp_ep_create": (_STATUS, (c_void_p, POINTER(EndpointParameters), _POINTER)),
    "ucp_ep_close_nb": (c_void_p, (c_void_p, c_uint)),
    "ucp_ep_print_info": (None, (c_void_p, c_void_p)),
    "ucp_ep_rkey_unpack": (_STATUS, (c_void_p, c_char_p, _POINTER)),
    "ucp_rkey_destroy": (None, (c_void_p,)),
    "ucp_put_nbx": (c_void_p, (c_void_p, c_void_p, c_size_t, c_uint64, c_void_p, POINTER(RequestParameters))),
    "ucp_get_nbx": (c_void_p, (c_void_p, c_void_p, c_size_t, c_uint64, c_void_p, POINTER(RequestParameters))),
    "ucp_ep_flush_nbx": (c_void_p, (c_void_p, POINTER(RequestParameters))),
    "ucp_request_check_status": (_STATUS, (c_void_p,)),
    "ucp_request_free": (None, (c_void_p,)),
}


def declare(library: ctypes.CDLL) -> ctypes.CDLL:
    """Return the library with the types of its functions set; raise TransportError where one is missing."""
    for name, (result, arguments) in _SIGNATURES.items():
        try:
            function = getattr(library, name)
        except AttributeError:
            raise TransportError(f"{library._name} has no {name}; give a libucp of UCX 1.12 or later") from None
        function.restype, function.argtypes = result, arguments
    library.ucs_status_string.restype, library.ucs_status_string.argtypes = c_char_p, (_STATUS,)
    return library


def status_text(library: ctypes.CDLL, status: int) -> str:
    """Return UCX's words for a status."""
    text: bytes = library.ucs_status_string(status)
    return text.decode()


def error_of(pointer: int | None) -> int:
    """Return the (negative) status that a request pointer stands for, 0 where it is none."""
    if pointer is None or pointer <= 2**64 - _ERRORS:
        return 0
    return int(pointer) - 2**64
