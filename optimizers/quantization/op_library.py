"""The ops' library with torch, and what their implementations check: memory is read by address, so nothing is trusted.

What a product needs to know of its weights is kept by address: it holds addresses and sizes only, and stays right when
the memory changes hands.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import torch

from analyzer.errors import HotbenchError
from kernels.quantized.cpu_call import ProductCall, product_call
from kernels.quantized.cpu_pages import LARGE_PAGE, make_large
from kernels.quantized.cpu_store import layout
from kernels.quantized.cpu_weights import WeightsError

_torch: Any = torch
NAMESPACE = "hotbench"
_library: Any = _torch.library.Library(NAMESPACE, "FRAGMENT")
_MOST_CALLS = 4096
_KEPT_BYTES = 256 << 10
_own = threading.local()
_calls: dict[tuple[Any, ...], ProductCall] = {}


def register(schema: str, compute: Callable[..., Any], fake: Callable[..., Any], dispatch_key: str = "CPU") -> Any:
    """Return the op hotbench::NAME of a schema, defined with what computes it on one device and what tells its shape.

    An op that is there already (an artifact that was loaded brings the same ones) is returned as it is.
    Raises HotbenchError where it has another schema.
    """
    name = schema.partition("(")[0]
    found = getattr(getattr(torch.ops.hotbench, name, None), "default", None)
    if found is None:
        _library.define(schema)
        _library.impl(name, compute, dispatch_key)
        _torch.library.register_fake(f"{NAMESPACE}::{name}", fake, lib=_library)
        return getattr(torch.ops.hotbench, name).default
    if str(found._schema) != f"{NAMESPACE}::{schema}":
        raise HotbenchError(f"another version of the op {NAMESPACE}::{name} is loaded; load one artifact a process")
    return found


def call_of(kind: str, rows: int, columns: int, group: int, *arrays: torch.Tensor | None) -> ProductCall:
    """Return the products with weights [rows, columns] in some arrays, those of cpu_store.layout in its order."""
    key: list[Any] = [kind, rows, columns, group]
    for array in arrays:
        if array is not None:
            key += (array.data_ptr(), array.numel())
    found = _calls.get(tuple(key))
    if found is None:
        checked_arrays(kind, rows, columns, group, [array for array in arrays if array is not None])
        if len(_calls) >= _MOST_CALLS:
            _calls.clear()
        for array in arrays:
            if array is not None and array.numel() >= LARGE_PAGE:
                make_large(array.data_ptr(), array.nbytes)
        found = product_call(kind, rows, columns, group or None, tuple(key[4::2]))
        _calls[tuple(key)] = found
    return found


def scratch(nbytes: int) -> torch.Tensor:
    """Return memory that a product may write to until this thread asks again; a little of it is kept for that."""
    if nbytes > _KEPT_BYTES:
        return torch.empty(nbytes, dtype=torch.uint8, device="cpu")
    kept: torch.Tensor | None = getattr(_own, "scratch", None)
    if kept is None:
        with torch.inference_mode(False):
            kept = _own.scratch = torch.empty(_KEPT_BYTES, dtype=torch.uint8, device="cpu")
    return kept


def checked_arrays(kind: str, rows: int, columns: int, group: int, arrays: list[torch.Tensor]) -> None:
    """Raise HotbenchError unless the arrays are those of the layout, in the CPU's memory."""
    try:
        wanted = layout(kind, rows, columns, group or None)
    except WeightsError as error:
        raise HotbenchError(str(error)) from error
    if len(arrays) != len(wanted):
        raise HotbenchError(f"{kind} weights have {len(wanted)} arrays, {', '.join(wanted)}; {len(arrays)} are given")
    for array, (name, (dtype, shape)) in zip(arrays, wanted.items(), strict=True):
        found = (str(array.dtype).removeprefix("torch."), tuple(array.shape))
        if found != (dtype, shape) or not array.is_contiguous() or array.device.type != "cpu":
            given = f"{found[0]} {list(found[1])} on {array.device}"
            raise HotbenchError(f"{name} is {given}; {kind} weights need contiguous {dtype} {list(shape)} on the CPU")


def checked_input(x: torch.Tensor, columns: int) -> torch.Tensor:
    """Return activations [..., columns] with no gaps between the rows. Raises HotbenchError for any other."""
    if x.dtype is not torch.float32 or not x.is_cpu or not x.dim() or x.shape[-1] != columns:
        given = f"{str(x.dtype).removeprefix('torch.')} {list(x.shape)} on {x.device}"
        raise HotbenchError(f"x is {given}; this quantized layer takes float32 [..., {columns}] on the CPU")
    if x.requires_grad and torch.is_grad_enabled():
        raise HotbenchError("a quantized layer has no gradient; call the model within torch.no_grad()")
    return x if x.is_contiguous() and not x.is_neg() else x.resolve_neg().contiguous()


def checked_bias(bias: torch.Tensor, rows: int) -> int:
    """Return the address of a bias. Raises HotbenchError for one that does not go with the weights."""
    if bias.dtype is not torch.float32 or bias.shape != (rows,) or not bias.is_contiguous():
        given = f"{str(bias.dtype).removeprefix('torch.')} {list(bias.shape)}"
        raise HotbenchError(f"the bias is {given}; this quantized layer needs contiguous float32 [{rows}]")
    return bias.data_ptr()
