"""Files of named arrays in the safetensors format, laid out so that vectors start at multiples of 64 bytes.

Other readers of the format read them; this one returns views of a memory map, and refuses what is damaged in words.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analyzer.errors import RecordError

_DTYPES: Mapping[str, str] = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "uint16", "I64": "int64", "I32": "int32",
    "I16": "int16", "I8": "int8", "U64": "uint64", "U32": "uint32", "U16": "uint16", "U8": "uint8", "BOOL": "bool",
    "C64": "complex64",
}  # fmt: skip
"""The format's names; bfloat16, which NumPy has not, is read as its bits."""
_NAMES: Mapping[str, str] = {dtype: name for name, dtype in _DTYPES.items() if name != "BF16"}
_ALIGNMENT = 64
_LARGEST_HEADER = 100_000_000


@dataclass(frozen=True, slots=True, eq=False)
class Stored:
    """An array of a file. dtype: the format's name of it, where it is not that of the array (BF16 lies as uint16)."""

    array: NDArray[Any]
    dtype: str = ""

    @property
    def tag(self) -> str:
        """Return the format's name of the dtype. Raises RecordError for a dtype that the format has not."""
        name = self.dtype or _NAMES.get(self.array.dtype.name)
        if name is None:
            raise RecordError(f"a {self.array.dtype} array cannot be stored; use one of {', '.join(_NAMES)}")
        return name


def written(tensors: Mapping[str, Stored]) -> bytes:
    """Return the file of the tensors. Raises RecordError for a dtype that the format has not."""
    # Those of whole lines come first, so that all of them start at one.
    order = sorted(tensors, key=lambda name: (tensors[name].array.nbytes % _ALIGNMENT != 0, _odd(tensors[name]), name))
    header: dict[str, Any] = {}
    end = 0
    for name in order:
        stored = tensors[name]
        begin, end = end, end + stored.array.nbytes
        header[name] = {"dtype": stored.tag, "shape": list(stored.array.shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(len(text) + 8) % _ALIGNMENT)
    data = (np.ascontiguousarray(tensors[name].array).tobytes() for name in order)
    return b"".join((len(text).to_bytes(8, "little"), text, *data))


def _odd(stored: Stored) -> int:
    """Return the negative size of an element: wide ones come first, so that each lies at a multiple of its size."""
    return -stored.array.dtype.itemsize


def read(data: NDArray[np.uint8] | bytes, what: str) -> dict[str, Stored]:
    """Return the tensors of a file, as views of `data`; `what` names it in errors.

    Raises RecordError for a file that is not whole, or whose parts overlap or lie outside of it.
    """
    raw = np.frombuffer(data, np.uint8) if isinstance(data, bytes) else data
    try:
        return dict(_tensors(raw))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RecordError(f"{what} is no whole tensor file ({_line(error)}); save or copy it again") from error


def _tensors(raw: NDArray[np.uint8]) -> Iterable[tuple[str, Stored]]:
    size = int.from_bytes(raw[:8].tobytes(), "little")
    if len(raw) < 8 or size > min(len(raw) - 8, _LARGEST_HEADER):
        raise ValueError(f"{len(raw)} bytes cannot hold a header of {size}")
    header = json.loads(raw[8 : 8 + size].tobytes())
    body, end = raw[8 + size :], 0
    entries = [(name, entry) for name, entry in header.items() if name != "__metadata__"]
    for name, entry in sorted(entries, key=lambda item: item[1]["data_offsets"]):
        begin, stop = (int(offset) for offset in entry["data_offsets"])
        shape, dtype = tuple(int(length) for length in entry["shape"]), np.dtype(_DTYPES[entry["dtype"]])
        if begin != end or min((stop - begin, *shape), default=0) < 0 or stop > len(body):
            raise ValueError(f"{name} lies at {begin} to {stop}, the data is {len(body)} bytes, {end} before it")
        if math.prod(shape) * dtype.itemsize != stop - begin:
            raise ValueError(f"{name}, {dtype} {list(shape)}, has {stop - begin} bytes")
        end = stop
        part = body[begin:stop]
        array = part.view(dtype) if part.ctypes.data % dtype.itemsize == 0 else part.copy().view(dtype)
        yield name, Stored(array.reshape(shape), entry["dtype"])
    if end != len(body):
        raise ValueError(f"{len(body) - end} bytes behind the last tensor")


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
