"""The other ways to train in less memory, each as a change to a fresh workload."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

from analyzer.errors import HotbenchError
from analyzer.workload import Workload
from benchmarks.swap_models import ConvolutionalNetwork, Transformer

STAGE = 8
ACTIVATION_BUDGET = 0.5


class Checkpointed(torch.nn.Module):
    """A block whose activations are dropped and made again: torch.utils.checkpoint, random state and all."""

    def __init__(self, block: torch.nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, *inputs: torch.Tensor) -> Any:
        return checkpoint(self.block, *inputs, use_reentrant=False)


def with_checkpoints(workload: Workload, blocks: int | None = None) -> Workload:
    """Return the workload with each of its blocks checkpointed, or of a transformer the first `blocks` of them.

    Raises HotbenchError for a model without blocks.
    """
    model = workload.model
    if isinstance(model, Transformer):
        layers = list(model.layers)
        count = len(layers) if blocks is None else blocks
        model.layers = torch.nn.ModuleList([*map(Checkpointed, layers[:count]), *layers[count:]])
    elif isinstance(model, ConvolutionalNetwork):
        parts = list(model.features)
        stages = [torch.nn.Sequential(*parts[first : first + STAGE]) for first in range(0, len(parts), STAGE)]
        model.features = torch.nn.Sequential(*(Checkpointed(stage) for stage in stages))
    else:
        raise HotbenchError(f"{type(model).__name__} has no blocks to checkpoint")
    return workload


def with_saving_on_cpu(workload: Workload) -> Workload:
    """Return the workload with torch.autograd.graph.save_on_cpu around its forward."""
    model = workload.model
    forward = model.forward

    def saving(*args: Any, **kwargs: Any) -> Any:
        with torch.autograd.graph.save_on_cpu():
            return forward(*args, **kwargs)

    model.forward = saving
    return workload


def with_activation_budget(workload: Workload) -> Workload:
    """Return the workload compiled, its partitioner told to keep half of the activations."""
    import torch._functorch.config as settings

    compiled = torch.compile(workload.model, backend="aot_eager_decomp_partition")

    def step(model: torch.nn.Module, batch: Any) -> Any:
        assert workload.loss is not None and workload.optimizer is not None
        workload.optimizer.zero_grad(set_to_none=True)
        with settings.patch(activation_memory_budget=ACTIVATION_BUDGET):
            loss = workload.loss(compiled(*batch[0], **batch[1]), batch)
        loss.backward()  # type: ignore[no-untyped-call]
        workload.optimizer.step()
        return loss.detach()

    workload.step = step
    return workload


def unchanged(workload: Workload) -> Workload:
    """Return the workload."""
    return workload


PEERS: dict[str, Callable[[Workload], Workload]] = {
    "none": unchanged,
    "checkpoint": with_checkpoints,
    "save_on_cpu": with_saving_on_cpu,
    "activation_memory_budget": with_activation_budget,
}
