"""The compiled graph against eager on the tensors of its first call: the same answers in less time, or not used."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.autograd.graph import saved_tensors_hooks

from optimizers.fusion.backend_decision import figures
from optimizers.fusion.timing import Comparison, compare

GraphCall = Callable[..., Any]
_CLEAR = 0.1

_TOLERANCES = {torch.float32: 1e-4, torch.float64: 1e-9}
"""Of the largest value of a tensor; a gradient that is rounding noise alone is held against the largest one of all."""
_NOISE = {torch.float32: 1e-6, torch.float64: 1e-14}


@dataclass(frozen=True, slots=True)
class Trial:
    """What was found.

    kind:       why the compiled graph is not used, "" where it is. detail: the figures.
    comparison: eager over compiled; None where it was not timed.
    """

    kind: str
    detail: str = ""
    comparison: Comparison | None = None


def try_out(
    eager: GraphCall, compiled: GraphCall, args: Sequence[Any], written: tuple[int, ...] | None, budget_seconds: float
) -> Trial:
    """Return whether `compiled` gives eager's outputs and gradients in less time.

    Nothing that the caller can see changes: what the graph writes in place are copies, random numbers are drawn from
    a state that is put back.
    """
    training = torch.is_grad_enabled() and any(_tracked(arg) for arg in args)
    if written is None and training:
        return Trial("what the graph writes in place is not known")
    if any(_tracked(args[k]) for k in written or ()):
        return Trial("the graph writes an input that needs gradients")
    steps = [_Step(call, _copies(args, written), training) for call in (eager, compiled)]
    # Hooks of the caller, such as a checkpoint's, count what is saved, and may stop the step early: not ours.
    with torch.random.fork_rng(devices=[]), saved_tensors_hooks(_as_it_is, _as_it_is):
        state = torch.get_rng_state()
        # The first run builds the programs, which draws random numbers and writes: it has copies of its own.
        _Step(compiled, _copies(args, written), training).run({})
        results = []
        for step in steps:
            torch.set_rng_state(state)
            results.append(step.results(steps[0].tangents))
        torch.set_rng_state(state)
        compared = [_disagreement(*pair) for pair in zip(results[1], results[0], strict=True)]
        wrong = next((reason for reason in compared if reason), "")
        if wrong:
            return Trial("results differ from eager's", wrong)
        first, second = (lambda step=step: step.run(steps[0].tangents) for step in steps)
        comparison = compare(first, second, budget_seconds=budget_seconds, clear=_CLEAR)
    if comparison.low <= 1.0:
        return Trial("not faster than eager here", figures(comparison), comparison)
    return Trial("", comparison=comparison)


def _as_it_is(tensor: torch.Tensor) -> torch.Tensor:
    return tensor


class _Step:
    """One side: forward, and backward where something needs gradients."""

    def __init__(self, call: GraphCall, args: list[Any], training: bool) -> None:
        self.call = call
        self.args = args
        self.leaves = [arg for arg in args if _tracked(arg)] if training else []
        self.tangents: dict[int, torch.Tensor] = {}

    def run(self, tangents: dict[int, torch.Tensor]) -> tuple[list[Any], list[Any]]:
        outputs = list(self.call(*self.args))
        if not self.leaves:
            return outputs, []
        if not tangents:
            tangents.update({k: _tangent(out) for k, out in enumerate(outputs) if _tracked(out)})
        if not tangents:
            return outputs, []
        sources = [outputs[k] for k in tangents]
        gradients = torch.autograd.grad(sources, self.leaves, list(tangents.values()), allow_unused=True)
        return outputs, list(gradients)

    def results(self, tangents: dict[int, torch.Tensor]) -> tuple[list[Any], list[Any], list[Any]]:
        """Return outputs, gradients and what was written in place."""
        outputs, gradients = self.run(tangents)
        return outputs, gradients, [arg for arg in self.args if isinstance(arg, torch.Tensor)]


def _tracked(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.requires_grad


def _tangent(output: torch.Tensor) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    if not output.shape:
        return torch.ones_like(output)
    return torch.randn(output.shape, generator=generator, dtype=output.dtype)


def _copies(args: Sequence[Any], written: tuple[int, ...] | None) -> list[Any]:
    """Return leaves of this side's own; the memory of what the graph only reads is shared."""
    copies: list[Any] = []
    for position, arg in enumerate(args):
        if not isinstance(arg, torch.Tensor):
            copies.append(arg)
            continue
        private = written is None or position in written
        copy = arg.detach().clone() if private else arg.detach()
        copies.append(copy.requires_grad_() if arg.requires_grad else copy)
    return copies


def _disagreement(results: Sequence[Any], references: Sequence[Any]) -> str:
    """Return in words how two lists of tensors differ beyond rounding, "" where they agree."""
    if len(results) != len(references):
        return f"{len(results)} results where eager has {len(references)}"
    tensors = [r for r in references if isinstance(r, torch.Tensor) and r.is_floating_point() and r.numel()]
    largest = max((_largest(tensor) for tensor in tensors), default=0.0)
    return next((why for pair in zip(results, references, strict=True) if (why := _differs(*pair, largest))), "")


def _differs(result: Any, reference: Any, largest: float) -> str:
    if not isinstance(reference, torch.Tensor) or not isinstance(result, torch.Tensor):
        same = type(result) is type(reference) and (result is reference or result == reference)
        return "" if same else f"{result!r} where eager has {reference!r}"
    if result.shape != reference.shape or result.dtype != reference.dtype:
        return f"{result.dtype} {tuple(result.shape)} where eager has {reference.dtype} {tuple(reference.shape)}"
    if not reference.is_floating_point() or not reference.numel():
        return "" if torch.equal(result, reference) else f"{reference.dtype} values"
    allowed = _TOLERANCES.get(reference.dtype, 2e-2) * _largest(reference)
    allowed = max(allowed, _NOISE.get(reference.dtype, 1e-3) * largest)
    a, b = result.detach().double(), reference.detach().double()
    if torch.equal(a.isnan(), b.isnan()) and torch.equal(a.isinf(), b.isinf()):
        error = float((a - b).nan_to_num(0.0, 0.0, 0.0).abs().max())
        return "" if error <= allowed else f"by {error:.1e} (allowed {allowed:.1e})"
    return "NaN or infinities stand at other places"


def _largest(tensor: torch.Tensor) -> float:
    return float(tensor.detach().double().nan_to_num(0.0, 0.0, 0.0).abs().max())
