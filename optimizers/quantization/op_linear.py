"""The op hotbench::quantized_linear: products with compressed weights, as tensors of the caller."""

from __future__ import annotations

from typing import Any

import torch

from analyzer.errors import HotbenchError
from kernels.quantized.cpu_epilogue import ACTIVATIONS
from optimizers.quantization.op_library import call_of, checked_bias, checked_input, register, scratch
from optimizers.quantization.op_reference import reference_linear

SCHEMA = (
    "quantized_linear(Tensor x, Tensor panels, Tensor scales, Tensor sums, Tensor? tables, Tensor? group_scales, "
    "Tensor? bias, str kind, int rows, int columns, int group, str activation) -> Tensor"
)
_numbers = {name: number for number, name in enumerate(ACTIVATIONS)}


def quantized_linear(
    x: torch.Tensor,
    panels: torch.Tensor,
    scales: torch.Tensor,
    sums: torch.Tensor,
    tables: torch.Tensor | None,
    group_scales: torch.Tensor | None,
    bias: torch.Tensor | None,
    kind: str,
    rows: int,
    columns: int,
    group: int,
    activation: str,
) -> torch.Tensor:
    """Return activation(x W^T + bias), float32 [..., rows], for float32 x [..., columns] and W [rows, columns].

    kind, group (0 for none) and the arrays: as of cpu_store.layout. activation: one of cpu_epilogue.ACTIVATIONS.
    For a float64 x it is the float64 product with what the weights stand for: the reference of the float32 one.
    Raises HotbenchError for an x or a bias of another shape, dtype or device, for arrays that are not the layout's,
    and where a gradient would be needed.
    """
    number = _numbers.get(activation)
    if number is None:
        raise HotbenchError(f"the activation {activation!r} is not known; use one of {', '.join(ACTIVATIONS)}")
    if x.dtype is torch.float64:
        arrays = (panels, scales, sums, tables, group_scales)
        return reference_linear(x, kind, rows, columns, group, arrays, bias, activation)
    call = call_of(kind, rows, columns, group, panels, scales, sums, tables, group_scales)
    x = checked_input(x, columns)
    address = 0 if bias is None else checked_bias(bias, rows)
    shape = x.shape
    out = x.new_empty((*shape[:-1], rows))
    count = shape[0] if len(shape) == 2 else out.numel() // rows
    if count:
        threads = torch.get_num_threads()
        workspace = scratch(call.workspace_bytes(count, threads))
        call(x.data_ptr(), count, out.data_ptr(), workspace.data_ptr(), number, address, threads)
    return out


def _fake(x: torch.Tensor, panels: torch.Tensor, *rest: Any) -> torch.Tensor:
    rows, columns = rest[-4], rest[-3]
    if x.dtype not in (torch.float32, torch.float64) or not x.dim():
        raise HotbenchError(f"x is {x.dtype} {list(x.shape)}; this quantized layer takes float32 [..., {columns}]")
    checks: Any = torch
    checks._check(x.shape[-1] == columns, lambda: f"x is {list(x.shape)}; this quantized layer takes [..., {columns}]")
    return x.new_empty((*x.shape[:-1], rows))


linear_op = register(SCHEMA, quantized_linear, _fake)
