"""The tensors that an optimizer keeps between its updates, in an order that two processes agree on."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from optimizers.swap.plain import is_plain
from optimizers.swap.trace import StateTensor


def state_tensors(optimizer: torch.optim.Optimizer) -> Iterator[tuple[StateTensor, torch.Tensor]]:
    """Yield each tensor of the state that fills a storage of its own, parameters in the optimizer's order."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    seen: set[int] = set()
    for place, parameter in enumerate(parameters):
        for name, value in optimizer.state.get(parameter, {}).items():
            if isinstance(value, torch.Tensor) and is_plain(value):
                storage = value.untyped_storage()
                alone = storage._cdata not in seen and storage.nbytes() == value.numel() * value.element_size()
                seen.add(storage._cdata)
                if alone:
                    yield StateTensor(place, str(name), storage.nbytes()), value


def list_state(optimizer: torch.optim.Optimizer | None) -> tuple[StateTensor, ...]:
    """Return the optimizer's state as it is now; empty before its first update."""
    return () if optimizer is None else tuple(tensor for tensor, _ in state_tensors(optimizer))
