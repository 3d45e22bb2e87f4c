"""Fuse a module for given inputs: capture, build, verify, time, keep what is faster, or say why not."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch.utils import _pytree as pytree

from analyzer.errors import HotbenchError
from analyzer.progress import Progress, silent
from kernels.compiler.kinds import kernel_name
from kernels.compiler.loaded import LoadedKernel
from optimizers.fusion.accuracy import Difference
from optimizers.fusion.again import found_again, inference_key
from optimizers.fusion.against_eager import errors_against_float64, verify
from optimizers.fusion.alternatives import Alternative, timed
from optimizers.fusion.candidates import RegionChoice, choose_regions
from optimizers.fusion.capture import Captured, ModelCall, UnfusableError
from optimizers.fusion.loops_bound import surely_faster
from optimizers.fusion.lower import lower
from optimizers.fusion.module import FusedModule
from optimizers.fusion.program import Program, build_program
from optimizers.fusion.recording import Recording
from optimizers.fusion.runtime import Runner, compile_kernels
from optimizers.fusion.stored import StoredProgram, save
from optimizers.fusion.timing import Comparison, clock_of, compare
from optimizers.plan import Refusal

if TYPE_CHECKING:
    from optimizers.fusion.cuda_choice import CudaVariant

NAME = "fusion"
WITH_LOOPS, WITHOUT_LOOPS = "with loops", "without loops"
_MOST_ROUNDS = 3
_CLEAR = 0.1
"""So much of a difference, over the whole interval, needs no more rounds."""
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
    kernels: Mapping[str, LoadedKernel]
    excluded: tuple[str, ...]
    rolled: bool
    choices: tuple[RegionChoice, ...]
    comparison: Comparison
    accuracy: Difference
    against_float64: tuple[float, float] | None
    """max_rel of the fused and of the eager float32 outputs against eager float64; None where that cannot run."""
    others: tuple[Alternative, ...] = ()
    """Whole programs that were built and not kept: the one with or without loops."""


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
    result = _attempt(model, args, kwargs or {}, _Accepted(max_error, min_gain), progress, anew=False)
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
    """Return what `fuse` does, measured anew, with everything that was measured, or why nothing was kept."""
    result = _attempt(model, args, kwargs, _Accepted(max_error, min_gain), progress, anew=True)
    assert not isinstance(result, FusedModule), "only a program from the cache comes without its measurements"
    return result


@dataclass(frozen=True, slots=True)
class _Accepted:
    """What a fused module must reach: see `fuse`."""

    max_error: float | None
    min_gain: float


def _attempt(
    model: torch.nn.Module,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    accepted: _Accepted,
    progress: Progress,
    anew: bool,
) -> Fused | FusedModule | Refusal:
    """Return the fused module, as part of what was measured where it was fused anew, or why there is none."""
    try:
        with torch.no_grad():
            progress("tracing the model", 0.0)
            call = ModelCall(model, args, kwargs)
            recording = call.recording()
            if recording is not None and not anew:
                module = found_again(model, call, recording, accepted.max_error, partial(_rebuilt, call))
                if module is not None:
                    first, second = (partial(one, *args, **kwargs) for one in (model, module))
                    comparison = compare(first, second, 2.0, clear=_CLEAR)
                    return _slow(module, comparison, accepted.min_gain) or module
            return _fuse(model, call, recording, accepted, progress, anew)
    except UnfusableError as error:
        return Refusal(NAME, str(error))
    except HotbenchError:
        raise
    except Exception as error:
        # Whatever goes wrong here must not reach a user whose model runs without it.
        _log.debug("fusing failed", exc_info=True)
        return Refusal(NAME, f"fusing it raised {_in_a_line(error)}; the model stays as it is")


def _rebuilt(call: ModelCall, stored: StoredProgram) -> Program:
    """Return the whole program of a stored one. Raises HotbenchError where this version builds another."""
    with torch.no_grad():
        program, _ = build(call.captured(call.recording()), stored.excluded, stored.rolled)
    if program.digest() != stored.digest():
        raise HotbenchError("the model's graph is no longer the one that was fused; fuse it again")
    return program


def _in_a_line(error: Exception) -> str:
    words = " ".join(str(error).split())[:160]
    return f"{type(error).__name__}: {words}" if words else type(error).__name__


def _fuse(
    model: torch.nn.Module,
    call: ModelCall,
    recording: Recording | None,
    accepted: _Accepted,
    progress: Progress,
    anew: bool,
) -> Fused | Refusal:
    (args, kwargs), max_error = call.arguments, accepted.max_error
    captured = call.captured(recording)
    best = _best_there(
        model, captured, args, kwargs, lambda v: not verify(model, v, args, kwargs, max_error).reason, progress
    )
    progress("comparing with eager", 0.8)
    module = best.module(model, captured)
    accuracy = verify(model, module, args, kwargs, max_error)
    if accuracy.reason:
        return Refusal(NAME, f"the fused outputs do not agree with eager: {accuracy.reason}")
    if recording is not None and isinstance(best, _Variant):
        save(inference_key(call, recording), best.program, best.kernels, best.excluded, best.rolled)
    clock, clear = clock_of(captured.device), None if anew else _CLEAR
    comparison = compare(lambda: model(*args, **kwargs), lambda: module(*args, **kwargs), 2.0, clock=clock, clear=clear)
    if refusal := _slow(module, comparison, accepted.min_gain):
        return refusal
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
        errors_against_float64(model, module, args, kwargs) if anew else None,
        best.others if isinstance(best, _Variant) else (),
    )


def _slow(module: FusedModule, comparison: Comparison, min_gain: float) -> Refusal | None:
    """Return why a module is not kept, None where it is; it then carries the figures."""
    if module.fallbacks:
        return Refusal(NAME, f"the program cannot run on its own inputs ({next(iter(module.fallbacks))})")
    if comparison.low <= 1.0 + min_gain:
        return Refusal(NAME, _not_faster(comparison, min_gain))
    module.measured = _figures(comparison)
    return None


@dataclass(frozen=True)
class _Variant:
    """One program for the model, its regions chosen. rolled: with loops."""

    program: Program
    kernels: Mapping[str, LoadedKernel]
    excluded: tuple[str, ...]
    choices: tuple[RegionChoice, ...]
    rolled: bool
    others: tuple[Alternative, ...] = ()

    def module(self, model: torch.nn.Module, captured: Captured) -> FusedModule:
        """Return the model with this program in its place."""
        return FusedModule(model, captured, Runner(self.program, self.kernels))


def _best_there(
    model: torch.nn.Module,
    captured: Captured,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    right: Callable[[FusedModule], bool],
    progress: Progress,
) -> _Variant | CudaVariant:
    """Return the best program for the device that the model is on."""
    if captured.device.type == "cpu":
        return _best(model, captured, right, progress)
    from optimizers.fusion.cuda_choice import best_on_cuda  # a model on the CPU needs none of it

    return best_on_cuda(captured, title_of(captured), model, lambda module: module(*args, **kwargs), right)


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
    if not right(rolled.module(model, captured)):
        return _chosen(model, captured, False, progress, 0.65)
    run = partial(Runner(rolled.program, rolled.kernels), weights, inputs)
    if surely_faster(rolled.program, run):
        return rolled
    progress("compiling kernels without loops", 0.6)
    try:
        straight = _chosen(model, captured, False, progress, 0.65)
    except UnfusableError:
        return rolled
    first = partial(Runner(straight.program, straight.kernels), weights, inputs)
    comparison = compare(first, run, budget_seconds=0.5, clear=_CLEAR)
    return _better(straight, rolled, comparison)


def _better(straight: _Variant, rolled: _Variant, comparison: Comparison) -> _Variant:
    """Return the faster variant, with the other one as what was not kept."""
    if comparison.ratio > 1.0:
        reason = f"the loops are {comparison.ratio:.2f}x as fast"
        other = Alternative(WITHOUT_LOOPS, comparison.first_seconds, rounds=comparison.rounds, reason=reason)
        return replace(rolled, others=(other,))
    loops = timed(WITH_LOOPS, comparison, False, "it is not faster than the program without loops", WITHOUT_LOOPS)
    return replace(straight, others=(loops,))


def _chosen(model: torch.nn.Module, captured: Captured, rolled: bool, progress: Progress, done: float) -> _Variant:
    """Return the program without the regions that are measured slower than the ATen ops in their place.

    done: how much of the whole is done once the kernels are compiled.
    """
    weights, inputs = tensors_of(model, captured)
    excluded: tuple[str, ...] = ()
    choices: list[RegionChoice] = []
    measured: list[RegionChoice] = []
    program, kernels = build(captured, excluded, rolled)
    for turn in range(_MOST_ROUNDS):
        progress("timing regions", done + 0.05 * turn)
        measured = choose_regions(program, kernels, captured, weights, inputs, measured)
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
) -> tuple[Program, dict[str, LoadedKernel]]:
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
    return [node for bound in program.bounds.values() if kernel_name(bound.region) == kernel for node in bound.refused]


def _figures(comparison: Comparison) -> str:
    first, second = comparison.first_seconds * 1e3, comparison.second_seconds * 1e3
    interval = f"95 % interval {comparison.low:.2f} to {comparison.high:.2f}"
    return f"fused {second:.3g} ms, eager {first:.3g} ms ({comparison.ratio:.2f}x, {interval})"


def _not_faster(comparison: Comparison, min_gain: float) -> str:
    asked = f"; a gain of {min_gain:.0%} was asked for" if min_gain else ""
    return f"not faster than eager here: {_figures(comparison)}{asked}"
