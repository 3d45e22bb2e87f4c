"""What goes into each layer on calibration inputs: sums over rows that are no padding, for fits to outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from analyzer.progress import Progress, silent
from analyzer.workload import Arguments
from optimizers.quantization.batches import padding_mask
from optimizers.quantization.layer_inputs import layer_inputs
from optimizers.quantization.targets import Target


@dataclass(frozen=True, slots=True, eq=False)
class InputStatistics:
    """Of the inputs x [rows, columns] of one weight matrix.

    diagonal: sum of x**2, [columns]; of an embedding, [rows of the table]: how often each was looked up.
    hessian:  sum of x^T x, [columns, columns], float64; None where only the diagonal was asked for.
    rows:     inputs seen, without padding.
    """

    diagonal: NDArray[np.float64] = field(repr=False)
    hessian: NDArray[np.float64] | None = field(repr=False)
    rows: int


def collect(
    model: torch.nn.Module,
    targets: Sequence[Target],
    wanted: Mapping[str, bool],
    batches: Sequence[Arguments],
    mask: str | None = "attention_mask",
    progress: Progress = silent,
) -> dict[str, InputStatistics]:
    """Return the statistics of the parameters in `wanted` (name -> whether the whole Hessian is), by running the model.

    mask: name of the model's argument [batch, length] that is 0 where tokens are padding; inputs [batch, length, size]
    of a layer leave these rows out. A layer that is never reached has no entry.
    """
    sums: dict[str, _Sums] = {}
    current: list[torch.Tensor | None] = [None]
    with _watching(targets, wanted, sums, current), torch.no_grad():
        for number, batch in enumerate(batches):
            current[0] = padding_mask(model, batch, mask)
            model(*batch[0], **batch[1])
            progress("calibrating", (number + 1) / len(batches))
    return {name: found.statistics() for name, found in sums.items() if found.rows}


class _Sums:
    """Running sums of one matrix's inputs."""

    def __init__(self, whole: bool) -> None:
        self.whole, self.rows = whole, 0
        self.diagonal: torch.Tensor | None = None
        self.hessian: torch.Tensor | None = None

    def add(self, x: torch.Tensor) -> None:
        """Add inputs [rows, columns]."""
        self.rows += len(x)
        square = x.square().sum(0, dtype=torch.float64)
        self.diagonal = square if self.diagonal is None else self.diagonal + square
        if self.whole:
            product = (x.T @ x).double()
            self.hessian = product if self.hessian is None else self.hessian.add_(product)

    def count(self, rows: torch.Tensor, size: int) -> None:
        """Add look-ups of an embedding's rows."""
        found = torch.bincount(rows, minlength=size).double()
        self.rows += len(rows)
        self.diagonal = found if self.diagonal is None else self.diagonal + found

    def statistics(self) -> InputStatistics:
        """Return what was summed."""
        assert self.diagonal is not None
        return InputStatistics(self.diagonal.numpy(), None if self.hessian is None else self.hessian.numpy(), self.rows)


@contextmanager
def _watching(
    targets: Sequence[Target],
    wanted: Mapping[str, bool],
    sums: dict[str, _Sums],
    mask: list[torch.Tensor | None],
) -> Iterator[None]:
    handles = []
    for target in targets:
        names = [name for name in target.parameters if name in wanted]
        if names:
            hook = _hook(target, names, wanted, sums, mask)
            handles.append(target.module.register_forward_pre_hook(hook, with_kwargs=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _hook(
    target: Target,
    names: Sequence[str],
    wanted: Mapping[str, bool],
    sums: dict[str, _Sums],
    mask: list[torch.Tensor | None],
) -> Callable[[torch.nn.Module, tuple[Any, ...], dict[str, Any]], None]:
    prefix = f"{target.name}." if target.name else ""

    def watch(module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        wanted_here = [name.removeprefix(prefix) for name in names]
        for name, x in layer_inputs(module, wanted_here, args, kwargs, mask[0]):
            found = sums.setdefault(prefix + name, _Sums(wanted[prefix + name]))
            if isinstance(module, torch.nn.Embedding):
                found.count(x, module.num_embeddings)
            else:
                found.add(x)

    return watch
