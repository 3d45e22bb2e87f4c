"""Fuse a module for given inputs: capture, build, verify, time, keep what is faster, or say why not."""

from __future__ import annotations

import copy
import hashlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch.utils import _pytree as pytree

from analyzer.errors import HotbenchError
from analyzer.progress import Progress, silent
from optimizers.fusion.accuracy import Difference, difference
from optimizers.fusion.candidates import RegionChoice, choose_regions
from optimizers.fusion.capture import Captured, UnfusableError, capture
from optimizers.fusion.lower import lower
from optimizers.fusion.module import FusedModule
from optimizers.fusion.program import Program, build_program
from optimizers.fusion.regions import kernel_name
from optimizers.fusion.runtime import Kernel, Runner, compile_kernels
from optimizers.fusion.timing import Comparison, compare
from optimizers.plan import Refusal

NAME = "fusion"
_MOST_ROUNDS = 3
_log = logging.getLogger("hotbench")


@dataclass(frozen=True)
class Fused:
    """A fused module that was kept, and what was measured on the way.

    excluded: nodes of the captured graph that stay with ATen because their kernels were not faster.
    rolled:   the program runs loops where the graph repeats itself.
    """

    module: FusedModule
    captured: Captured
    program: Program
    kernels: Mapping[str, Kernel]
    excluded: tuple[str, ...]
    rolled: bool
    choices: tuple[RegionChoice, ...]
    comparison: Comparison
    accuracy: Difference
    against_float64: tuple[float, float] | None
    """max_rel of the fused and of the eager float32 outputs against eager float64; None where that cannot run."""


def fuse(
    model: torch.nn.Module,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any] | None = None,
    *,
    max_error: float | None = None,
    min_gain: float = 0.0,
    progress: Progress = silent,
) -> FusedModule | Refusal:
    """Return a module that computes the same faster on inputs like these, or why there is none.

    max_error: accepted max|a-b| / max|b| of floating outputs (default: by dtype, 1e-5 for float32).
    min_gain:  fraction of eager's time that must be saved at least.
    """
    result = fuse_measured(model, args, kwargs or {}, max_error=max_error, min_gain=min_gain, progress=progress)
    return result.module if isinstance(result, Fused) else result


def fuse_measured(
    model: torch.nn.Module,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    *,
    max_error: float | None = None,
    min_gain: float = 0.0,
    progress: Progress = silent,
) -> Fused | Refusal:
    """Return what `fuse` does with everything that was measured, or why nothing was kept."""
    try:
        with torch.no_grad():
            return _fuse(model, args, kwargs, max_error, min_gain, progress)
    except UnfusableError as error:
        return Refusal(NAME, str(error))
    except HotbenchError:
        raise
    except Exception as error:
        # Whatever goes wrong here must not reach a user whose model runs without it.
        _log.debug("fusing failed", exc_info=True)
        return Refusal(NAME, f"fusing it raised {_in_a_line(error)}; the model stays as it is")


def _in_a_line(error: Exception) -> str:
    words = " ".join(str(error).split())[:160]
    return f"{type(error).__name__}: {words}" if words else type(error).__name__


def _fuse(
    model: torch.nn.Module,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    max_error: float | None,
    min_gain: float,
    progress: Progress,
) -> Fused | Refusal:
    progress("tracing the model", 0.0)
    captured = capture(model, args, kwargs)
    best = _best(model, captured, lambda v: not _verify(model, v, args, kwargs, max_error).reason, progress)
    progress("comparing with eager", 0.8)
    module = best.module(model, captured)
    accuracy = _verify(model, module, args, kwargs, max_error)
    if accuracy.reason:
        return Refusal(NAME, f"the fused outputs do not agree with eager: {accuracy.reason}")
    comparison = compare(lambda: model(*args, **kwargs), lambda: module(*args, **kwargs), budget_seconds=2.0)
    if module.fallbacks:
        return Refusal(NAME, f"the program cannot run on its own inputs ({next(iter(module.fallbacks))})")
    if comparison.low <= 1.0 + min_gain:
        return Refusal(NAME, _not_faster(comparison, min_gain))
    module.measured = _figures(comparison)
    progress("fused", 1.0)
    return Fused(
        module,
        captured,
        best.program,
        best.kernels,
        best.excluded,
        best.rolled,
        best.choices,
        comparison,
        accuracy,
        _float64(model, module, args, kwargs),
    )


@dataclass(frozen=True)
class _Variant:
    """One program for the model, its regions chosen. rolled: with loops."""

    program: Program
    kernels: Mapping[str, Kernel]
    excluded: tuple[str, ...]
    choices: tuple[RegionChoice, ...]
    rolled: bool

    def module(self, model: torch.nn.Module, captured: Captured) -> FusedModule:
        """Return the model with this program in its place."""
        return FusedModule(model, captured, Runner(self.program, self.kernels))


def _best(
    model: torch.nn.Module, captured: Captured, right: Callable[[FusedModule], bool], progress: Progress
) -> _Variant:
    """Return the faster of the program with loops, where the graph has some, and the one without.

    right: whether a module's outputs are accepted; loops whose outputs are not are no candidate.
    """
    weights, inputs = tensors_of(model, captured)
    progress("compiling kernels", 0.2)
    try:
        rolled = _chosen(model, captured, True, progress, 0.35)
    except UnfusableError:
        return _chosen(model, captured, False, progress, 0.65)
    if not rolled.program.loops:
        return rolled
    progress("compiling kernels without loops", 0.6)
    try:
        straight = _chosen(model, captured, False, progress, 0.65)
    except UnfusableError:
        return rolled
    if not right(rolled.module(model, captured)):
        return straight
    first, second = (partial(Runner(v.program, v.kernels), weights, inputs) for v in (straight, rolled))
    comparison = compare(first, second, budget_seconds=0.5)
    return rolled if comparison.ratio > 1.0 else straight


def _chosen(model: torch.nn.Module, captured: Captured, rolled: bool, progress: Progress, done: float) -> _Variant:
    """Return the program without the regions that are measured slower than the ATen ops in their place.

    done: how much of the whole is done once the kernels are compiled.
    """
    weights, inputs = tensors_of(model, captured)
    excluded: tuple[str, ...] = ()
    choices: list[RegionChoice] = []
    program, kernels = build(captured, excluded, rolled)
    for turn in range(_MOST_ROUNDS):
        progress("timing regions", done + 0.05 * turn)
        measured = choose_regions(program, kernels, captured, weights, inputs)
        slower = [choice for choice in measured if not choice.kept]
        choices += slower or measured
        if not slower:
            break
        nodes = {node for choice in slower for node in _all_nodes(program, choice.kernel)}
        fewer = tuple(sorted({*excluded, *nodes}))
        next_program, next_kernels = build(captured, fewer, rolled)
        if len(next_program.loops) < len(program.loops):
            break  # a loop is worth more than what stands around it
        program, kernels, excluded = next_program, next_kernels, fewer
    return _Variant(program, kernels, excluded, tuple(choices), rolled)


def build(
    captured: Captured, excluded: tuple[str, ...] = (), rolled: bool = False
) -> tuple[Program, dict[str, Kernel]]:
    """Return the program of a captured graph and its kernels; rolled: with loops where the graph repeats itself.

    Raises UnfusableError where neither a region nor a loop is left, and where building fails.
    """
    try:
        program = build_program(lower(captured, frozenset(excluded)), title_of(captured), rolled)
        kernels = compile_kernels(program)
    except HotbenchError:
        raise
    except Exception as error:
        # The program with loops may fail where the one without them does not: callers try the other one.
        _log.debug("building a program failed", exc_info=True)
        raise UnfusableError(f"building its program raised {_in_a_line(error)}") from error
    if not program.bounds and not program.loops:
        why = (
            "every region that could be fused was measured slower than eager"
            if excluded
            else "no op in it can be fused"
        )
        raise UnfusableError(f"nothing to fuse: {why}")
    return program, kernels


def title_of(captured: Captured) -> str:
    """Return the first line of a generated program."""
    return f"A fused program, generated by Hotbench from graph {graph_hash(captured)}."


def graph_hash(captured: Captured) -> str:
    """Return a hash of the captured graph: ops, arguments, shapes, strides, dtypes, weight names, output structure."""
    lines = [repr(captured.weights), str(captured.output_spec)]
    for node in captured.graph.graph.nodes:
        tensors = pytree.tree_leaves(node.meta.get("val"))
        shapes = [(tuple(t.shape), t.stride(), str(t.dtype)) for t in tensors if isinstance(t, torch.Tensor)]
        lines.append(f"{node.name} {node.op} {node.target} {node.args} {node.kwargs} {shapes}")
        if node.op == "get_attr":
            lines.append(repr(getattr(captured.graph, str(node.target)).tolist()))
    lines += [repr(leaf) for leaf in captured.inputs if not isinstance(leaf, torch.Tensor)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:24]


def tensors_of(model: torch.nn.Module, captured: Captured) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Return the model's weights and the captured tensor inputs, in the order of the program."""
    named = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    inputs = [leaf for leaf in captured.inputs if isinstance(leaf, torch.Tensor)]
    return [named[name] for name in captured.weights], inputs


def _all_nodes(program: Program, kernel: str) -> list[str]:
    return [node for bound in program.bounds.values() if kernel_name(bound.region) == kernel for node in bound.nodes]


def _verify(
    model: torch.nn.Module,
    module: FusedModule,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    max_error: float | None,
) -> Difference:
    """Return how far the fused outputs are from eager's, both with the same random numbers."""
    with torch.random.fork_rng(devices=[]):
        state = torch.get_rng_state()
        reference = pytree.tree_leaves(model(*args, **kwargs))
        torch.set_rng_state(state)
        result = pytree.tree_leaves(module(*args, **kwargs))
    return difference(result, reference, max_error)


def _float64(
    model: torch.nn.Module, module: FusedModule, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[float, float] | None:
    """Return the errors of fused and eager outputs against the model in float64."""
    try:
        exact = copy.deepcopy(model).double()
        wide = pytree.tree_map_only(
            torch.Tensor, lambda t: t.double() if t.is_floating_point() else t, (args, dict(kwargs))
        )
        with torch.random.fork_rng(devices=[]):
            state = torch.get_rng_state()
            flats = []
            for call, (call_args, call_kwargs) in ((exact, wide), (module, (args, kwargs)), (model, (args, kwargs))):
                torch.set_rng_state(state)
                flats.append(
                    [
                        leaf
                        for leaf in pytree.tree_leaves(call(*call_args, **call_kwargs))
                        if isinstance(leaf, torch.Tensor)
                    ]
                )
    except Exception:
        # A model that can't be copied or hard-codes float32: the figure is left out, the check against eager stands.
        return None
    reference, *others = ([t for t in flat if t.is_floating_point()] for flat in flats)
    fused, eager = (difference([t.double() for t in flat], reference, max_error=1.0).max_rel for flat in others)
    return fused, eager


def _figures(comparison: Comparison) -> str:
    first, second = comparison.first_seconds * 1e3, comparison.second_seconds * 1e3
    interval = f"95 % interval {comparison.low:.2f} to {comparison.high:.2f}"
    return f"fused {second:.3g} ms, eager {first:.3g} ms ({comparison.ratio:.2f}x, {interval})"


def _not_faster(comparison: Comparison, min_gain: float) -> str:
    asked = f"; a gain of {min_gain:.0%} was asked for" if min_gain else ""
    return f"not faster than eager here: {_figures(comparison)}{asked}"
