"""Which program runs a graph of the backend's: chosen by measurement, without it, or as it was decided before."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch

from kernels.compiler.kinds import kernel_name
from optimizers.fusion.accuracy import difference
from optimizers.fusion.api import build, graph_hash
from optimizers.fusion.candidates import RegionChoice, choose_regions
from optimizers.fusion.capture import Captured, UnfusableError
from optimizers.fusion.loops_bound import surely_faster
from optimizers.fusion.program import Program
from optimizers.fusion.runtime import Runner
from optimizers.fusion.stored import StoredProgram
from optimizers.fusion.timing import compare

_MOST_ROUNDS = 3
_LOOP_TOLERANCE = 1e-4
_CLEAR = 0.1

Tensors = list[torch.Tensor]


@dataclass(frozen=True)
class Chosen:
    """One program and its kernels.

    excluded: nodes that stay with ATen. rolled: the program may run loops where the graph repeats itself.
    """

    program: Program | StoredProgram
    kernels: Mapping[str, Any]
    excluded: tuple[str, ...]
    rolled: bool
    choices: tuple[RegionChoice, ...] = ()


class Chooser(Protocol):
    """How a graph's program is found."""

    def __call__(self, captured: Captured, weights: Tensors, inputs: Tensors, exact: Sequence[str]) -> Chosen:
        """Return the program for these tensors; nodes in `exact` stay with ATen. Raises UnfusableError."""
        ...


class Watch(Protocol):
    """What is told of each program that was chosen, and of the tensors that it was chosen on."""

    def __call__(self, captured: Captured, weights: Tensors, inputs: Tensors, chosen: Chosen) -> None:
        """Look at them; whatever is to last has to be copied."""
        ...


def watched(choose: Chooser, watch: Watch | None) -> Chooser:
    """Return `choose`, with `watch` told of what it chose."""
    if watch is None:
        return choose

    def told(captured: Captured, weights: Tensors, inputs: Tensors, exact: Sequence[str]) -> Chosen:
        chosen = choose(captured, weights, inputs, exact)
        watch(captured, weights, inputs, chosen)
        return chosen

    return told


def unmeasured(captured: Captured, weights: Tensors, inputs: Tensors, exact: Sequence[str]) -> Chosen:
    """Return the program with every region that can be fused."""
    excluded = tuple(sorted(exact))
    return Chosen(*build(captured, excluded), excluded, False)


def measured(captured: Captured, weights: Tensors, inputs: Tensors, exact: Sequence[str]) -> Chosen:
    """Return the faster of the programs with and without loops, neither with regions slower than ATen."""
    try:
        rolled = _without_slower(captured, weights, inputs, exact, rolled=True)
    except UnfusableError:
        return _without_slower(captured, weights, inputs, exact, rolled=False)
    if not rolled.program.loops:
        return rolled
    run = partial(Runner(rolled.program, rolled.kernels), weights, inputs)
    if not _right(run, captured, [*weights, *inputs]):
        return _without_slower(captured, weights, inputs, exact, rolled=False)
    if isinstance(rolled.program, Program) and surely_faster(rolled.program, run):
        return rolled
    try:
        straight = _without_slower(captured, weights, inputs, exact, rolled=False)
    except UnfusableError:
        return rolled
    first = partial(Runner(straight.program, straight.kernels), weights, inputs)
    return rolled if compare(first, run, budget_seconds=0.3, clear=_CLEAR).ratio > 1.0 else straight


def _right(run: Callable[[], Any], captured: Captured, tensors: Tensors) -> bool:
    """Return whether a program computes what its graph does, op by op, both with the same random numbers."""
    with torch.random.fork_rng(devices=[]):
        state = torch.get_rng_state()
        reference = captured.graph(*tensors)
        torch.set_rng_state(state)
        return not difference(run(), reference, _LOOP_TOLERANCE).reason


def _without_slower(
    captured: Captured, weights: Tensors, inputs: Tensors, exact: Sequence[str], rolled: bool
) -> Chosen:
    excluded = tuple(sorted(exact))
    choices: list[RegionChoice] = []
    found: list[RegionChoice] = []
    program, kernels = build(captured, excluded, rolled)
    for _ in range(_MOST_ROUNDS):
        found = choose_regions(program, kernels, captured, weights, inputs, found)
        slower = {choice.kernel for choice in found if not choice.kept}
        choices += [choice for choice in found if not choice.kept] or found
        if not slower:
            break
        nodes = {node for b in program.bounds.values() if kernel_name(b.region) in slower for node in b.refused}
        fewer = tuple(sorted({*excluded, *nodes}))
        next_program, next_kernels = build(captured, fewer, rolled)
        if len(next_program.loops) < len(program.loops):
            break  # a loop is worth more than what stands around it
        program, kernels, excluded = next_program, next_kernels, fewer
    return Chosen(program, kernels, excluded, rolled, tuple(choices))


@dataclass(frozen=True)
class Replay:
    """Repeats decisions. graphs: by a Dynamo graph's hash, whether it is compiled; programs: by an ATen graph's hash,
    its excluded nodes and whether it is rolled.
    """

    graphs: Mapping[str, bool]
    programs: Mapping[str, tuple[tuple[str, ...], bool]]

    def __call__(self, captured: Captured, weights: Tensors, inputs: Tensors, exact: Sequence[str]) -> Chosen:
        """Return the program that was decided. Raises UnfusableError for a graph that no decision is about."""
        decided = self.programs.get(graph_hash(captured))
        if decided is None:
            raise UnfusableError("no program was decided for this graph")
        return Chosen(*build(captured, *decided), *decided)
