"""What the quantized layers have in common: they hold packed arrays, stay on the CPU, and are for inference."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self

import torch

from analyzer.errors import HotbenchError

_KEPT = ("_forward_hooks", "_forward_pre_hooks", "_forward_hooks_with_kwargs", "_forward_pre_hooks_with_kwargs")


class QuantizedModule(torch.nn.Module):
    """A layer whose weights are packed arrays: buffers that `state_dict` has, under the names in `packed`.

    holds: what a file must know to fill them, a word of optimizers.quantization.packed_state.
    """

    holds: ClassVar[str] = ""

    def __init__(self) -> None:
        super().__init__()
        self.packed: tuple[str, ...] = ()

    def hold(self, arrays: Mapping[str, torch.Tensor | None]) -> None:
        """Register packed arrays as buffers; None for one that this kind of weights has not."""
        for name, array in arrays.items():
            set_buffer(self, name, array)
        self.packed += tuple(name for name, array in arrays.items() if array is not None)

    def in_place_of(self, original: torch.nn.Module) -> Self:
        """Return itself in the original's mode, with its forward hooks."""
        for name in _KEPT:
            getattr(self, name).update(getattr(original, name))
        self.training = original.training
        return self

    def __getstate__(self) -> dict[str, Any]:
        """Return the state for pickle, halves as signed ones: torch writes uint16 tensors but cannot read them back."""
        state = dict(self.__dict__)
        state["_buffers"] = {name: _as_dtype(value, _SIGNED) for name, value in self._buffers.items()}
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take the state that pickle brings back."""
        state["_buffers"] = {
            name: _as_dtype(value, _UNSIGNED) if name in state["packed"] else value
            for name, value in state["_buffers"].items()
        }
        super().__setstate__(state)  # type: ignore[no-untyped-call, unused-ignore]

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> Self:
        """Refuse what would move or narrow the arrays. (float64 is allowed: it is how references are computed.)"""
        probe = fn(torch.zeros(1))
        if probe.device.type not in ("cpu", "meta") or probe.dtype not in (torch.float32, torch.float64):
            wanted = f"{probe.device.type} as {str(probe.dtype).removeprefix('torch.')}"
            raise HotbenchError(
                f"a quantized {type(self).__name__} cannot go to {wanted}: its kernels take float32 on the CPU; "
                "hotbench.to_cuda makes a copy for a CUDA device"
            )
        return super()._apply(fn, recurse)  # type: ignore[no-any-return, no-untyped-call, unused-ignore]


_SIGNED, _UNSIGNED = {torch.uint16: torch.int16}, {torch.int16: torch.uint16}


def _as_dtype(value: torch.Tensor | None, dtypes: Mapping[torch.dtype, torch.dtype]) -> torch.Tensor | None:
    """Return a tensor whose bits are taken as another dtype, where one is named for its own."""
    return value if value is None or value.dtype not in dtypes else value.view(dtypes[value.dtype])


def set_buffer(layer: torch.nn.Module, name: str, value: torch.Tensor | None) -> None:
    """Register a buffer, or set None as an attribute: torch.export fails on buffers that are None."""
    if value is None:
        setattr(layer, name, None)
    else:
        layer.register_buffer(name, value)


def dense(original: torch.nn.Module, values: Mapping[str, torch.Tensor]) -> torch.nn.Module:
    """Return a copy of a layer of torch with other values of some parameters: what has no product of its own."""
    layer = copy.deepcopy(original).requires_grad_(False)
    for name, value in values.items():
        parameter = layer.get_parameter(name)
        parameter.data = value.reshape(parameter.shape).to(parameter.dtype)
    return layer


def bias_of(original: torch.nn.Module, name: str = "bias") -> torch.Tensor | None:
    """Return a copy of a layer's bias, float32; None where it has none."""
    bias: Any = getattr(original, name, None)
    return None if bias is None else bias.detach().to(torch.float32).contiguous().clone()
