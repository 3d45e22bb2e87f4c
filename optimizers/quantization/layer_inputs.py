"""The inputs [rows, columns] that each weight matrix of a layer is multiplied with, from the layer's own inputs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch

_CELLS = (torch.nn.LSTMCell, torch.nn.GRUCell, torch.nn.RNNCell)
_RECURRENT = (torch.nn.LSTM, torch.nn.GRU, torch.nn.RNN)
_CONVOLUTIONS = (torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d)


def layer_inputs(
    module: torch.nn.Module,
    names: Sequence[str],
    args: Sequence[Any],
    kwargs: dict[str, Any],
    mask: torch.Tensor | None = None,
) -> Iterator[tuple[str, torch.Tensor]]:
    """Return (parameter, inputs [rows, columns]) for the named parameters of one call of a layer.

    Of an embedding the rows that are looked up, [rows]. A grouped convolution's groups count as more rows.
    mask [batch, length]: inputs [batch, length, size] leave out the rows where it is False.
    """
    x = args[0] if args else next(iter(kwargs.values()))
    if isinstance(module, torch.nn.Embedding):
        yield "weight", _unmasked(x[..., None], mask)[:, 0]
    elif isinstance(module, _CONVOLUTIONS):
        yield "weight", _patches(module, x)
    elif isinstance(module, _CELLS):
        yield from _cell_inputs(module, names, x, args[1] if len(args) > 1 else kwargs.get("hx"))
    elif isinstance(module, _RECURRENT):
        if isinstance(x, torch.Tensor):
            yield from _recurrent_inputs(module, names, x)
    else:
        yield "weight", _unmasked(x, mask)


def _unmasked(x: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    if mask is not None and x.dim() == 3 and x.shape[:2] == mask.shape:
        return x[mask]
    return x.reshape(-1, x.shape[-1])


def _patches(module: Any, x: torch.Tensor) -> torch.Tensor:
    """Return what each output of a convolution sees, [outputs, in / groups * kernel], of any number of dimensions."""
    spatial = len(module.kernel_size)
    x = x if x.dim() == spatial + 2 else x[None]
    if module.padding_mode != "zeros" or isinstance(module.padding, str):
        mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
        x = torch.nn.functional.pad(x, module._reversed_padding_repeated_twice, mode=mode)
    else:
        x = torch.nn.functional.pad(x, [side for size in reversed(module.padding) for side in (size, size)])
    for axis, size in enumerate(module.kernel_size):
        reach = module.dilation[axis] * (size - 1) + 1
        x = x.unfold(axis + 2, reach, module.stride[axis])[..., :: module.dilation[axis]]
    channels = x.shape[1] // module.groups
    x = x.reshape(len(x), module.groups, channels, -1, *x.shape[-spatial:]).transpose(2, 3)
    return x.reshape(-1, channels * math.prod(module.kernel_size))


def _cell_inputs(module: Any, names: Sequence[str], x: torch.Tensor, state: Any) -> Iterator[tuple[str, torch.Tensor]]:
    if "weight_ih" in names:
        yield "weight_ih", x.reshape(-1, x.shape[-1])
    hidden = state[0] if isinstance(state, tuple) else state
    if "weight_hh" in names and hidden is not None:
        yield "weight_hh", hidden.reshape(-1, hidden.shape[-1])


def _recurrent_inputs(module: Any, names: Sequence[str], x: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
    """Return the inputs of every layer: each is run for itself, from zeros, to see what the next gets."""
    if x.dim() == 2:
        x = x[:, None]
    elif module.batch_first:
        x = x.transpose(0, 1)
    directions = ("", "_reverse") if module.bidirectional else ("",)
    for layer in range(module.num_layers):
        outputs = []
        for suffix in directions:
            end = f"_l{layer}{suffix}"
            forwards = x.flip(0) if suffix else x
            output = _single(module, layer, suffix, x.shape[-1])(forwards)[0]
            earlier = torch.cat([torch.zeros_like(output[:1]), output[:-1]])
            for name, inputs in ((f"weight_ih{end}", x), (f"weight_hh{end}", earlier)):
                if name in names:
                    yield name, inputs.reshape(-1, inputs.shape[-1])
            outputs.append(output.flip(0) if suffix else output)
        x = torch.cat(outputs, -1)


def _single(module: Any, layer: int, suffix: str, size: int) -> Any:
    """Return one layer in one direction as a module of its own, with the same weights."""
    options: dict[str, Any] = {"bias": module.bias}
    if module.mode == "LSTM":
        options["proj_size"] = module.proj_size
    if module.mode.startswith("RNN"):
        options["nonlinearity"] = module.nonlinearity
    with torch.device("meta"):
        alone = type(module)(size, module.hidden_size, **options)
    end = f"_l{layer}{suffix}"
    state = {f"{name}_l0": getattr(module, name + end) for name in _names(module)}
    alone.load_state_dict(state, assign=True)
    return alone


def _names(module: Any) -> tuple[str, ...]:
    biases = ("bias_ih", "bias_hh") if module.bias else ()
    projection = ("weight_hr",) if getattr(module, "proj_size", 0) else ()
    return ("weight_ih", "weight_hh", *biases, *projection)
