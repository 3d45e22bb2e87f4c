"""The process after fitting: steps on calibration batches that bring the answers back to the float model's."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch.utils import _pytree as pytree

from analyzer.progress import Progress, silent
from analyzer.workload import Arguments, seeded
from optimizers.quantization.batches import padding_mask
from optimizers.quantization.compressed import CompressedWeight
from optimizers.quantization.errors import CompressionError
from optimizers.quantization.prune_ramp import PruneRamp
from optimizers.quantization.schedule import Schedule
from optimizers.quantization.tuning import Tuning

_CHECKPOINT_STEPS = 20
_KEPT_BYTES = 1 << 28
"""Of the float model's answers, kept for when their batch comes again."""


class Steps(Protocol):
    """What makes one step of a process after the backward pass, and can be saved."""

    @property
    def steps(self) -> int:
        """Return the steps that were made."""
        ...

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """Return what moves the values."""
        ...

    def step(self) -> None:
        """Move what is tuned."""
        ...

    def save(self, path: str | Path) -> None:
        """Write a checkpoint."""
        ...

    def load(self, path: str | Path) -> None:
        """Go on from one."""
        ...


def float_copy(model: torch.nn.Module) -> torch.nn.Module:
    """Return a copy of the model, in eval mode, of which nothing learns yet."""
    return copy.deepcopy(model).eval().requires_grad_(False)


def prune_by_ramp(
    model: torch.nn.Module,
    sparsity: Mapping[str, float],
    process: Schedule,
    batches: Sequence[Arguments],
    progress: Progress = silent,
) -> torch.nn.Module:
    """Return a copy of the model whose named weights became sparse over process.prune_ramp steps, the rest trained."""
    working = float_copy(model)
    stepping = PruneRamp(working, sparsity, process.prune_ramp, process.learning_rate)
    _train(working, model, stepping, process.prune_ramp, ".ramp", process, batches, progress)
    return working


def tune(
    model: torch.nn.Module,
    weights: Mapping[str, CompressedWeight],
    process: Schedule,
    batches: Sequence[Arguments],
    progress: Progress = silent,
) -> dict[str, CompressedWeight]:
    """Return the weights, their shared values moved so that answers on the batches come nearer to the model's."""
    working = float_copy(model)
    stepping = Tuning(working, weights, process.learning_rate)
    _train(working, model, stepping, process.steps - process.prune_ramp, "", process, batches, progress)
    return stepping.weights()


def _train(
    working: torch.nn.Module,
    reference: torch.nn.Module,
    stepping: Steps,
    steps: int,
    suffix: str,
    process: Schedule,
    batches: Sequence[Arguments],
    progress: Progress,
) -> None:
    """Make the steps, from a checkpoint on where there is one."""
    if not batches:
        raise CompressionError("fine-tuning needs inputs; give Schedule(calibration=…) or inputs=…")
    checkpoint = None if process.checkpoint is None else Path(f"{process.checkpoint}{suffix}")
    if checkpoint is not None and checkpoint.exists():
        stepping.load(checkpoint)
    answers, order = _Answers(reference, batches), _Order(len(batches), process.seed)
    rates = [group["lr"] for group in stepping.optimizer.param_groups]
    while stepping.steps < steps:
        number = order.batch(stepping.steps)
        # falling to a tenth: large steps first, then the noise of single batches is averaged out
        share = 1.0 - 0.9 * stepping.steps / steps
        for group, rate in zip(stepping.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * share
        loss = _loss(working, answers(number), batches[number], process)
        loss.backward()  # type: ignore[no-untyped-call]
        stepping.step()
        progress(f"fine-tuning, loss {float(loss.detach()):.3g}", stepping.steps / steps)
        if checkpoint is not None and (stepping.steps % _CHECKPOINT_STEPS == 0 or stepping.steps == steps):
            stepping.save(checkpoint)


def _loss(model: torch.nn.Module, reference: Any, batch: Arguments, process: Schedule) -> torch.Tensor:
    with torch.enable_grad():
        output = model(*batch[0], **batch[1])
        if process.loss is not None:
            loss = process.loss(output, reference, batch)
        else:
            loss = squared_difference(output, reference, padding_mask(model, batch, process.mask))
    if not isinstance(loss, torch.Tensor) or loss.numel() != 1 or not loss.requires_grad:
        raise CompressionError("the loss is no scalar that depends on the weights; return one tensor of one element")
    if not bool(torch.isfinite(loss)):
        raise CompressionError(
            f"the loss became {float(loss.detach())}; lower Schedule.learning_rate ({process.learning_rate:g})"
        )
    return loss


def squared_difference(output: Any, reference: Any, mask: torch.Tensor | None = None) -> torch.Tensor:
    """Return the mean over floating outputs of |output - reference|**2 / |reference|**2, padding left out."""
    losses = []
    for a, b in zip(_floating(output), _floating(reference), strict=True):
        if mask is not None and a.dim() >= 3 and a.shape[:2] == mask.shape:
            a, b = a[mask], b[mask]
        losses.append((a - b).square().mean() / b.square().mean().clamp_min(1e-20))
    if not losses:
        raise CompressionError("the model returns no floating tensor to compare; give Schedule(loss=…)")
    return torch.stack(losses).mean()


def _floating(tree: Any) -> list[torch.Tensor]:
    leaves = pytree.tree_leaves(tree)
    return [leaf for leaf in leaves if isinstance(leaf, torch.Tensor) and leaf.is_floating_point()]


class _Order:
    """Which batch each step takes: all of them once, shuffled, then again in another order."""

    def __init__(self, batches: int, seed: int) -> None:
        self._batches, self._seed = batches, seed
        self._epoch, self._order = -1, list[int]()

    def batch(self, step: int) -> int:
        """Return the number of the batch of a step; the same for the same step, whenever it is asked."""
        epoch, place = divmod(step, self._batches)
        if epoch != self._epoch:
            self._epoch = epoch
            self._order = torch.randperm(self._batches, generator=seeded(self._seed + epoch)).tolist()
        return self._order[place]


class _Answers:
    """What the float model answers to each batch, computed once where there is room to keep it."""

    def __init__(self, model: torch.nn.Module, batches: Sequence[Arguments]) -> None:
        self._model, self._batches = model, batches
        self._kept: dict[int, Any] = {}
        self._room = _KEPT_BYTES

    def __call__(self, number: int) -> Any:
        if number in self._kept:
            return self._kept[number]
        args, kwargs = self._batches[number]
        with torch.no_grad():
            answer = self._model(*args, **kwargs)
        size = sum(leaf.numel() * leaf.element_size() for leaf in _floating(answer))
        if size <= self._room:
            self._room -= size
            self._kept[number] = answer
        return answer
