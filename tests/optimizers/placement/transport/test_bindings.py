"""The structures for libucp lie as a C compiler lays those of ucp/api/ucp.h (UCX 1.22, x86-64: sizeof and offsetof)."""

from __future__ import annotations

import ctypes

import pytest

from optimizers.placement.transport import bindings
from optimizers.placement.transport.errors import TransportError
from optimizers.placement.transport.library import find_library

LAYOUTS = {
    bindings.Parameters: (88, {"features": 8, "name": 72}),
    bindings.WorkerParameters: (200, {"thread_mode": 8}),
    bindings.MapParameters: (48, {"address": 8, "length": 16, "flags": 24, "protection": 28, "memory_type": 32}),
    bindings.EndpointParameters: (104, {"address": 8}),
    bindings.RequestParameters: (96, {"attribute_mask": 0, "flags": 4, "memory": 64}),
}


@pytest.mark.parametrize("structure", LAYOUTS, ids=lambda structure: structure.__name__)
def test_a_structure_lies_as_in_c(structure):
    size, offsets = LAYOUTS[structure]
    assert ctypes.sizeof(structure) == size
    assert {name: getattr(structure, name).offset for name in offsets} == offsets


def test_a_status_is_one_byte_and_its_words_come_from_ucx():
    found = find_library()
    if isinstance(found, str):
        pytest.skip(found)
    ucx = bindings.declare(found.load())
    assert bindings.status_text(ucx, -6) == "Destination is unreachable"
    assert ucx.ucp_put_nbx.restype is ctypes.c_void_p
    assert {bindings._SIGNATURES[name][0] for name in ("ucp_mem_map", "ucp_ep_create")} == {ctypes.c_int8}


@pytest.mark.parametrize(
    ("pointer", "status"), [(None, 0), (0x7F00_0000_1000, 0), (2**64 - 3, -3), (2**64 - 100, -100)]
)
def test_a_request_pointer_may_be_an_error(pointer, status):
    assert bindings.error_of(pointer) == status


def test_a_library_without_the_functions_is_refused_by_name():
    with pytest.raises(TransportError, match="has no ucp_get_version; give a libucp of UCX"):
        bindings.declare(ctypes.CDLL("libc.so.6"))
