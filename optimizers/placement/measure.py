"""The steps of several backends measured beside each other: their processes take turns, on the same marks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from analyzer.errors import HotbenchError
from analyzer.measurement import Measurement, measure_quartiles
from analyzer.progress import Progress, silent
from optimizers.placement.launch import Entry, PlacementLaunch, Ranks
from optimizers.placement.step_times import StepTimes
from optimizers.placement.views import Split

ROUNDS = 5
WARMUP_STEPS = 3


def measure_backends(
    entry: Entry,
    names: Sequence[str],
    *,
    world_size: int,
    threads: int = 1,
    steps: int = 30,
    settings: Mapping[str, Any] | None = None,
    progress: Progress = silent,
) -> dict[str, Split | str]:
    """Return each backend's split over `steps` steps, or why it could not run.

    entry: what every worker builds (launch.baseline_entry, launch.candidate_entry).
    settings: of the backend "hotbench". A backend that fails is left out of the later rounds.
    """
    found: dict[str, Split | str] = {}
    taken: dict[str, list[StepTimes]] = {}
    with ExitStack() as stack:
        running: dict[str, Ranks] = {}
        for name in names:
            progress(f"starting {world_size} workers with {name}", 0.0)
            try:
                own = dict(settings or {}) if name == "hotbench" else {}
                launch = PlacementLaunch(*entry, name, world_size, threads, settings=own)
                running[name] = stack.enter_context(Ranks(launch))
                running[name].steps(WARMUP_STEPS)
            except HotbenchError as error:
                running.pop(name, None)
                found[name] = str(error)
        for turn in range(ROUNDS):
            progress("measuring steps of each backend in turn", turn / ROUNDS)
            for name, ranks in list(running.items()):
                try:
                    taken.setdefault(name, []).extend(ranks.steps(max(steps // ROUNDS, 1)).steps)
                except HotbenchError as error:
                    found[name] = str(error)
                    del running[name]
        for name, ranks in running.items():
            found[name] = split_of(taken[name], ranks.transport)
    progress("measured", 1.0)
    return found


def split_of(steps: Sequence[StepTimes], transport: str) -> Split:
    """Return the medians and quartiles of several steps."""

    def over(field: str) -> Measurement:
        return measure_quartiles([getattr(step, field) for step in steps], "s")

    return Split(over("seconds"), over("compute_seconds"), over("exposed_seconds"), over("hidden_seconds"), transport)
