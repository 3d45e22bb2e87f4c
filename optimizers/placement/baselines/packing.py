"""What one message of a parameter server carries: one parameter, or all of them in one flat buffer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch


class Packing(Protocol):
    """How trainable parameters and their gradients map to messages.

    published: one tensor a message: the parameters themselves, to be read or overwritten.
    """

    published: list[torch.Tensor]

    def ready(self, index: int) -> int | None:
        """Hear that gradient `index` is written; return the message that is whole now, if one is."""
        ...

    def gradient(self, message: int) -> torch.Tensor:
        """Return what to send for a whole message."""
        ...

    def receive_buffers(self) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Return new buffers, one a message, and views of them, one a parameter."""
        ...


class OneByOne:
    """A message a parameter, as they are."""

    def __init__(self, parameters: Sequence[torch.nn.Parameter]) -> None:
        self._parameters = parameters
        self.published = [parameter.data for parameter in parameters]

    def ready(self, index: int) -> int | None:
        """Return the parameter's own message."""
        return index

    def gradient(self, message: int) -> torch.Tensor:
        """Return the parameter's gradient."""
        gradient = self._parameters[message].grad
        assert gradient is not None  # Only whole messages are asked for.
        return gradient

    def receive_buffers(self) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Return a buffer a parameter."""
        buffers = [torch.empty_like(parameter, memory_format=torch.contiguous_format) for parameter in self._parameters]
        return buffers, buffers


class Flat:
    """One message a dtype: parameters become views of a flat buffer, gradients are copied into one as they come."""

    def __init__(self, parameters: Sequence[torch.nn.Parameter]) -> None:
        self._parameters = parameters
        dtypes = sorted({parameter.dtype for parameter in parameters}, key=str)
        self._message = [dtypes.index(parameter.dtype) for parameter in parameters]
        self._offsets, self._sizes = _offsets(parameters, self._message, len(dtypes))
        self.published = [torch.empty(size, dtype=dtype) for size, dtype in zip(self._sizes, dtypes, strict=True)]
        self._gradients, self._views = self.receive_buffers()
        self._missing = [0] * len(dtypes)
        for parameter, view in zip(parameters, self._views_of(self.published), strict=True):
            view.copy_(parameter.detach())
            parameter.data = view

    def ready(self, index: int) -> int | None:
        """Copy the gradient while it is warm in the cache; return its message once all of its gradients are in."""
        gradient, message = self._parameters[index].grad, self._message[index]
        assert gradient is not None  # Autograd has just written it.
        if self._missing[message] == 0:
            self._missing[message] = self._message.count(message)
        self._views[index].copy_(gradient)
        self._missing[message] -= 1
        return message if self._missing[message] == 0 else None

    def gradient(self, message: int) -> torch.Tensor:
        """Return the flat buffer."""
        return self._gradients[message]

    def receive_buffers(self) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Return a flat buffer a dtype, and views of it, one a parameter."""
        buffers = [torch.empty_like(tensor) for tensor in self.published]
        return buffers, self._views_of(buffers)

    def _views_of(self, buffers: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        return [
            buffers[message][offset : offset + parameter.numel()].view(parameter.shape)
            for parameter, message, offset in zip(self._parameters, self._message, self._offsets, strict=True)
        ]


def _offsets(parameters: Sequence[torch.Tensor], message: Sequence[int], count: int) -> tuple[list[int], list[int]]:
    """Return where each parameter begins in its message, and the messages' sizes, in elements."""
    offsets, sizes = [], [0] * count
    for parameter, number in zip(parameters, message, strict=True):
        offsets.append(sizes[number])
        sizes[number] += parameter.numel()
    return offsets, sizes


def bytes_of(tensor: torch.Tensor) -> bytes:
    """Return the tensor's elements, row by row."""
    flat = tensor.detach().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""


def copy_into(target: torch.Tensor, content: bytes) -> None:
    """Overwrite the contiguous tensor by what `bytes_of` wrote. Raises ValueError for too few or too many bytes."""
    size = target.numel() * target.element_size()
    if len(content) != size:
        raise ValueError(f"{len(content)} bytes for a tensor of {size}")
    if size:
        raw = target.detach().reshape(-1).view(torch.uint8).numpy()
        raw[:] = np.frombuffer(content, dtype=np.uint8)
