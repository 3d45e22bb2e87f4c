"""After the search: shared values moved by gradients, which may let a smaller mix pass the gate."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from analyzer.progress import Progress, part
from optimizers.quantization.bench import ModelBench
from optimizers.quantization.compressed import CompressedWeight
from optimizers.quantization.forms import LOW_RANK, PRUNE
from optimizers.quantization.limits import Limits
from optimizers.quantization.search import Found, Point

MOST_TRIES = 3
MOST_EXCESS = 6.0
"""A mix that loses more than so many times what is allowed is not tried: tuning does not bring that back."""


@dataclass(frozen=True, slots=True, eq=False)
class Tuned:
    """A search with the tuned mixes in it; model and weights of its best mix where that is a tuned one."""

    found: Found
    model: torch.nn.Module | None = None
    weights: Mapping[str, CompressedWeight] | None = None


def tune_mixes(bench: ModelBench, found: Found, limits: Limits, steps: int, progress: Progress) -> Tuned:
    """Return the search with the smallest mix that passes once it is tuned, or, where none does, the best one tuned.

    Mixes smaller than the best are tried, the smallest first, as far as their losses are within reach.
    """
    result = Tuned(found)
    tries = _tries(found, limits)
    for position, point in enumerate(tries):
        report = part(progress, position / len(tries), (position + 1) / len(tries))
        forms = {item.layer.name: item.form(point.forms[item.layer.name]).form for item in found.layers}
        model, weights = bench.tuned(forms, report)
        answers, speedup = bench.judged(model)
        name = f"{point.name}, tuned for {steps:,} steps"
        made = Point(name, point.forms, point.bytes, answers, speedup, limits.reason(answers))
        points = (*result.found.points, made)
        result = dataclasses.replace(result, found=dataclasses.replace(result.found, points=points))
        if made.passed and (point is not found.best or answers.cosine >= point.answers.cosine):
            return Tuned(dataclasses.replace(result.found, best=made), model, weights)
    return result


def _tries(found: Found, limits: Limits) -> list[Point]:
    """Return the mixes to tune: smaller than the best and within reach, the smallest first, then the best itself."""
    best = found.best
    smaller = [
        point
        for point in found.points
        if not point.passed
        and limits.excess(point.answers) <= MOST_EXCESS
        and (best is None or point.bytes < best.bytes)
        and _moves(point)
    ]
    chosen = sorted(smaller, key=lambda point: point.bytes)[:MOST_TRIES]
    return [*chosen, best] if best is not None and _moves(best) else chosen


def _moves(point: Point) -> bool:
    """Return whether there are values that can be moved by much: centroids, weights that stayed, thin matrices."""
    return any(name.startswith(("kmeans", PRUNE, LOW_RANK)) for name in point.forms.values())
