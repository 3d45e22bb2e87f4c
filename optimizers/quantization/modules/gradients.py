"""What quantized layers say to those who would differentiate them: torch itself would take them for constants."""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd import forward_ad

from analyzer.errors import HotbenchError

_functorch: Any = torch._C._functorch


def refuse_gradients(*tensors: torch.Tensor | None) -> None:
    """Raise HotbenchError where what is computed from the tensors is to be differentiated, by torch.func too.

    An op sees no more of torch.func than plain tensors, and what it gives would have a gradient of zero, unsaid.
    """
    if torch.compiler.is_compiling():  # a compiler reads the op, which refuses by itself
        return
    if forward_ad._current_level >= 0:
        raise HotbenchError("a quantized layer has no derivative; call the model outside of forward-mode AD")
    if torch.is_grad_enabled() and any(tensor is not None and _asks(tensor) for tensor in tensors):
        raise HotbenchError("a quantized layer has no gradient; call the model within torch.no_grad()")


def _asks(tensor: torch.Tensor) -> bool:
    """Return whether a tensor, or one that torch.func has wrapped into it, requires a gradient."""
    while _functorch.peek_interpreter_stack() is not None and _functorch.is_functorch_wrapped_tensor(tensor):
        if tensor.requires_grad:
            return True
        tensor = _functorch.get_unwrapped(tensor)
    return tensor.requires_grad
