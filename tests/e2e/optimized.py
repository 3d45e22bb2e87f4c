"""What a store holds of optimizers whose experiments have cards of their own, and a loop for the graph; by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analyzer.run import Run
from app.store import Store, open_store
from tests.app.derived.values import stored as save_calls
from tests.app.derived.values import unrolled
from tests.app.placement import WIDTHS, placement_view, save_placement
from tests.app.quantization import layered_run, quantization_view, save_quantization
from tests.app.swap import save_swap, swap_view, training_run
from tests.app.values import report_candidate, report_experiment
from tests.e2e.stored import save
from tests.optimizers.placement import training_runs

TURNS = 100
"""How often the loop's body is repeated in the graph."""


@dataclass(frozen=True)
class Proven:
    """The ids of a run and of an experiment about it."""

    run: str
    experiment: str


@dataclass(frozen=True)
class Optimized:
    """What was added to a store."""

    compressed: Proven
    swapped: Proven
    placed: Proven
    loop: str
    """A run of a loop of TURNS turns."""


def add_optimized(place: Path) -> Optimized:
    """Add a run and an experiment of each of them to the store at `place`; return their ids."""
    with open_store(str(place)) as store:
        return Optimized(
            compressed=_proven(store, layered_run(), save_quantization, quantization_view()),
            swapped=_proven(store, training_run(), save_swap, swap_view()),
            placed=_proven(store, training_runs.training_run(WIDTHS), save_placement, placement_view()),
            loop=save_calls(store, unrolled(TURNS), lines=4).id,
        )


def _proven(store: Store, drawn: Run, save_with: Callable[..., str], view: Any) -> Proven:
    """Save a run and, as the optimizer's own `save_with` does, an experiment that holds `view`."""
    run = save(store, drawn)
    return Proven(run.id, save_with(store, run, report_experiment(run, report_candidate(run)), view))
