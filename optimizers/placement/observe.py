"""What a step on the user's own model shows that a run does not: parameters' names, and shapes over several inputs."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch.utils import _pytree as pytree

from analyzer.workload import Stepper, Workload, seed_everything
from optimizers.placement.buckets import Gradient
from optimizers.placement.errors import PlacementError

SEEDS = (0, 1, 2)


def names_in_order(workload: Workload, gradients: Sequence[Gradient]) -> dict[str, str]:
    """Return, for each gradient of a run, the name of its parameter; found by the order in which backward writes them.

    Runs one step. Raises PlacementError where the step writes other gradients than the run did.
    """
    seen: list[tuple[str, tuple[int, ...]]] = []
    with ExitStack() as stack:
        for name, parameter in workload.model.named_parameters():
            if parameter.requires_grad:
                note = partial(_note, seen, name)
                handle = parameter.register_post_accumulate_grad_hook(note)  # type: ignore[no-untyped-call]
                stack.callback(handle.remove)
        seed_everything(0)
        Stepper(workload).step()
    order = sorted(gradients, key=lambda item: item.ready_seconds)
    if [gradient.shape for gradient in order] != [shape for _, shape in seen]:
        raise PlacementError(
            f"the step writes {len(seen)} gradients, not the {len(order)} of the run in their order; profile it again"
        )
    return {gradient.name: name for gradient, (name, _) in zip(order, seen, strict=True)}


def _note(seen: list[tuple[str, tuple[int, ...]]], name: str, parameter: torch.Tensor) -> None:
    seen.append((name, tuple(parameter.shape)))


def dynamic_shapes(workload: Workload, seeds: Sequence[int] = SEEDS) -> tuple[tuple[str, str], ...]:
    """Return the modules whose outputs have other shapes for other inputs, each with two of them in words.

    Parameters and gradients keep theirs; what modules hand on may not. Runs a forward for each seed.
    """
    shapes: dict[str, list[tuple[tuple[int, ...], ...]]] = {}
    with torch.no_grad(), _eager(), _watched(workload.model, shapes):
        for seed in seeds:
            seed_everything(seed)
            args, kwargs = workload.batch(seed)
            workload.model(*args, **kwargs)
    found = []
    for name, calls in shapes.items():
        rounds = [calls[begin :: max(len(calls) // len(seeds), 1)] for begin in range(max(len(calls) // len(seeds), 1))]
        other = next((pair for same in rounds for pair in pairwise(same) if pair[0] != pair[1]), None)
        if len(calls) % len(seeds):
            found.append((name, f"called {len(calls)} times for {len(seeds)} inputs"))
        elif other is not None:
            found.append((name, f"{_words(other[0])} and {_words(other[1])}"))
    return tuple(found)


@contextmanager
def _eager() -> Iterator[None]:
    """Let what was compiled run as it was written: modules inside of it have no outputs of their own otherwise."""
    if "torch._dynamo" not in sys.modules:  # nothing was compiled, and loading it takes a second
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield


@contextmanager
def _watched(model: torch.nn.Module, shapes: dict[str, list[tuple[tuple[int, ...], ...]]]) -> Iterator[None]:
    with ExitStack() as stack:
        for name, module in model.named_modules():
            if name:
                stack.callback(module.register_forward_hook(partial(_note_output, shapes, name)).remove)
        yield


def _note_output(
    shapes: dict[str, list[tuple[tuple[int, ...], ...]]], name: str, _module: Any, _inputs: Any, output: Any
) -> None:
    tensors = tuple(tuple(leaf.shape) for leaf in pytree.tree_leaves(output) if isinstance(leaf, torch.Tensor))
    shapes.setdefault(name, []).append(tensors)


def _words(shapes: tuple[tuple[int, ...], ...]) -> str:
    return ", ".join("x".join(str(size) for size in shape) or "scalar" for shape in shapes)
