"""Which tensors can be moved at all."""

from __future__ import annotations

import torch


def is_plain(tensor: torch.Tensor) -> bool:
    """Return whether the tensor is dense memory on the CPU that a view can be made of again."""
    return (
        tensor.layout == torch.strided
        and tensor.device.type == "cpu"
        and type(tensor) in (torch.Tensor, torch.nn.Parameter)
        and not tensor.is_conj()
        and not tensor.is_neg()
        and not tensor.is_quantized
    )
