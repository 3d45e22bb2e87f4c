"""What quantized layers compute, in float64 and from the weights as they stand: nothing is rounded on the way.

The ops answer with it where they are given float64: what checks a float32 result against float64 then finds one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch.nn import functional

from analyzer.errors import HotbenchError
from kernels.quantized.cpu_reference import dequantised
from kernels.quantized.cpu_store import layout, restored
from kernels.quantized.cpu_weights import WeightsError

ACTIVATIONS: Mapping[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "none": lambda y: y,
    "relu": functional.relu,
    "gelu": functional.gelu,
    "gelu_tanh": lambda y: functional.gelu(y, approximate="tanh"),
    "silu": functional.silu,
}


def matrix(kind: str, rows: int, columns: int, group: int, arrays: Sequence[torch.Tensor | None]) -> torch.Tensor:
    """Return the weight [rows, columns] of arrays of cpu_store.layout, float64. (Scales may be float64 by now.)

    Raises HotbenchError for other arrays.
    """
    given = [array.numpy() for array in arrays if array is not None]
    try:
        names = layout(kind, rows, columns, group or None)
        kept = [array.astype(np.float32) if array.dtype == np.float64 else array for array in given]
        found = restored(kind, rows, columns, dict(zip(names, kept, strict=False)), group or None)
    except WeightsError as error:
        raise HotbenchError(str(error)) from error
    return torch.from_numpy(dequantised(found)).double()


def reference_linear(
    x: torch.Tensor,
    kind: str,
    rows: int,
    columns: int,
    group: int,
    arrays: Sequence[torch.Tensor | None],
    bias: torch.Tensor | None,
    activation: str,
) -> torch.Tensor:
    """Return activation(x W^T + bias) in float64, for float64 x [..., columns]."""
    if not x.dim() or x.shape[-1] != columns:
        raise HotbenchError(f"x is float64 {list(x.shape)}; this quantized layer takes [..., {columns}]")
    weight = matrix(kind, rows, columns, group, arrays)
    return ACTIVATIONS[activation](functional.linear(x, weight, None if bias is None else bias.double()))


def reference_recurrent(
    x: torch.Tensor,
    hidden: torch.Tensor,
    cell: torch.Tensor | None,
    weights: tuple[torch.Tensor, torch.Tensor],
    biases: tuple[torch.Tensor | None, torch.Tensor | None],
    mode: str,
    reverse: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return outputs, last hidden and last cell states of a recurrent layer in float64; x [steps, batch, columns]."""
    of_input, of_hidden = (None if bias is None else bias.double() for bias in biases)
    outputs: list[torch.Tensor] = []
    h, c = hidden.double(), x.new_empty(0) if cell is None else cell.double()
    for inputs in reversed(x.unbind(0)) if reverse else x.unbind(0):
        own, recurrent = functional.linear(inputs, weights[0], of_input), functional.linear(h, weights[1], of_hidden)
        if mode == "lstm":
            i, f, g, o = (own + recurrent).chunk(4, 1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
        elif mode == "gru":
            (r, z, n), (hr, hz, hn) = own.chunk(3, 1), recurrent.chunk(3, 1)
            kept = (z + hz).sigmoid()
            h = (1 - kept) * (n + (r + hr).sigmoid() * hn).tanh() + kept * h
        else:
            h = (own + recurrent).tanh() if mode == "rnn_tanh" else (own + recurrent).relu()
        outputs.append(h)
    if reverse:
        outputs.reverse()
    out = torch.stack(outputs) if outputs else x.new_empty((0, *h.shape))
    return out, h.clone(), c.clone()
