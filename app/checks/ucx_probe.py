"""Asks one UCX library for its version and its components; a process of its own, as a wrong library may crash.

python -m app.checks.ucx_probe LIBUCP     one JSON line: version, path, components that have a device here
"""

from __future__ import annotations

import ctypes
import json
import sys
from pathlib import Path
from typing import Any

_NAME, _MEMORY_DOMAINS = 1, 2  # uct_component_attr.field_mask


class ComponentAttributes(ctypes.Structure):
    """The head of uct_component_attr_t, and room for what later versions add."""

    _fields_ = (
        ("field_mask", ctypes.c_uint64),
        ("name", ctypes.c_char * 16),
        ("memory_domains", ctypes.c_uint),
        ("rest", ctypes.c_char * 1024),
    )


def probe(library: str) -> dict[str, object]:
    """Return version, path and components; raise OSError for a file that is no libucp."""
    ucp = ctypes.CDLL(library)
    numbers = [ctypes.c_uint() for _ in range(3)]
    ucp.ucp_get_version(*map(ctypes.byref, numbers))
    path = loaded_path(library)
    return {"version": ".".join(str(n.value) for n in numbers), "path": path, "components": components(path)}


def components(path: str) -> list[str]:
    """Return the names of UCX's components that find a device or memory here; none where libuct does not tell."""
    uct = _transport_library(Path(path).parent)
    if uct is None:
        return []
    listed, count = ctypes.POINTER(ctypes.c_void_p)(), ctypes.c_uint()
    if uct.uct_query_components(ctypes.byref(listed), ctypes.byref(count)) != 0:
        return []
    names = []
    for index in range(count.value):
        attributes = ComponentAttributes(field_mask=_NAME | _MEMORY_DOMAINS)
        status = uct.uct_component_query(ctypes.c_void_p(listed[index]), ctypes.byref(attributes))
        if status == 0 and attributes.memory_domains:
            names.append(attributes.name.decode(errors="replace"))
    return names


def loaded_path(library: str) -> str:
    """Return the file that the loaded library lies in, as the process's memory map names it."""
    wanted = Path(library).name
    for line in Path("/proc/self/maps").read_text().splitlines():
        path = line.partition("/")[2]
        if path and Path(path).name.startswith(wanted.partition(".so")[0]):
            return f"/{path}"
    return library


def _transport_library(folder: Path) -> Any:
    for name in ("libuct.so.0", "libuct.so"):
        try:
            return ctypes.CDLL(str(folder / name))
        except OSError:
            continue
    return None


if __name__ == "__main__":
    json.dump(probe(sys.argv[1]), sys.stdout)
    print()
