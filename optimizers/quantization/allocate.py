"""Which form each layer takes, so that the whole costs least and loses no more than it may."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

STEPS = 4096
"""So many parts the allowed loss is cut into; a loss is rounded up to a whole part, so that the sum stays allowed."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One form that a layer can take.

    cost: what it takes of what is to be saved (bytes, seconds or a mix of both), finite.
    loss: what the answers lose by it, alone, 0 or more; infinite where it cannot be taken.
    """

    name: str
    cost: float
    loss: float


def allocate(layers: Mapping[str, Sequence[Choice]], allowed_loss: float) -> dict[str, Choice] | None:
    """Return a choice for each layer: the least sum of costs whose losses add up to `allowed_loss` at most.

    None where even the least losses exceed it. Losses are taken to add up; the whole is measured afterwards.
    This is the multiple-choice knapsack, solved over losses in steps of allowed_loss / 4096 (rounded up).
    """
    if not layers:
        return {}
    if allowed_loss < 0 or any(not options for options in layers.values()):
        return None
    names = list(layers)
    best = np.zeros(STEPS + 1)
    picked = np.zeros((len(names), STEPS + 1), dtype=np.int64)
    for row, name in enumerate(names):
        best, picked[row] = _with_layer(best, layers[name], allowed_loss)
    if not math.isfinite(best[STEPS]):
        return None
    found: dict[str, Choice] = {}
    left = STEPS
    for row in reversed(range(len(names))):
        choice = layers[names[row]][picked[row, left]]
        found[names[row]] = choice
        left -= _steps(choice.loss, allowed_loss)
    return {name: found[name] for name in names}


def _with_layer(
    best: npt.NDArray[np.float64], options: Sequence[Choice], allowed_loss: float
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Return the least cost within each number of steps with one layer more, and which option gives it."""
    table = np.full((len(options), STEPS + 1), math.inf)
    for row, option in enumerate(options):
        steps = _steps(option.loss, allowed_loss)
        if steps <= STEPS:
            table[row, steps:] = best[: STEPS + 1 - steps] + option.cost
    picked = table.argmin(axis=0)
    return table[picked, np.arange(STEPS + 1)], picked


def _steps(loss: float, allowed_loss: float) -> int:
    """Return a loss in whole steps, rounded up; more than there are where it cannot be taken."""
    if loss <= 0:
        return 0
    if not math.isfinite(loss) or loss > allowed_loss:
        return STEPS + 1
    return math.ceil(loss / allowed_loss * STEPS)


def backed_off(layers: Mapping[str, Sequence[Choice]], chosen: Mapping[str, Choice]) -> dict[str, Choice] | None:
    """Return the choice with one layer a step safer: the one that gives back the most loss for what it costs.

    None where every layer is as safe as it can be.
    """
    steps = [
        (_worth(chosen[name], option), name, option)
        for name, options in layers.items()
        for option in options
        if option.loss < chosen[name].loss
    ]
    if not steps:
        return None
    _, name, option = max(steps, key=lambda step: step[0])
    return {**chosen, name: option}


def _worth(before: Choice, after: Choice) -> float:
    """Return the loss that is given back for each unit of cost; infinite where it costs nothing."""
    dearer = after.cost - before.cost
    regained = before.loss - after.loss
    return math.inf if dearer <= 0 else regained / dearer
