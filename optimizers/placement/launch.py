"""Data-parallel training of a workload on the processes of one machine: what is run, and how long its steps took."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from analyzer.record import to_plain
from analyzer.reference import WorkloadReference
from optimizers.placement.backends import unavailable, unknown_settings
from optimizers.placement.baselines.backend import BackendError
from optimizers.placement.step_times import StepTimes, mean_of_ranks
from optimizers.placement.torch_stores import TCPStore
from optimizers.placement.workers import Meeting, RankProcess, Workers

Entry = tuple[str, dict[str, Any]]
"""What builds a Workload, and its argument, as of analyzer.launch.Launch."""
LOOPBACK = "127.0.0.1"
MOST_RANKS = 64
WARMUP_STEPS = 3
BUILD_SECONDS = 240.0
"""How long a rank may take to load torch, build its workload and find the others, beyond the time-out of one wait."""


@dataclass(frozen=True, slots=True)
class PlacementLaunch:
    """How a training runs on the processes of one machine.

    entry, argument: as of analyzer.launch.Launch; they build the Workload, alike in every rank.
    backend:   one of optimizers.placement.backends.NAMES.
    settings:  of the backend "hotbench": bucket_megabytes, form, transports, interface, direct; others take none.
    threads:   intra-op threads of a rank.
    """

    entry: str
    argument: dict[str, Any]
    backend: str
    world_size: int = 2
    threads: int = 1
    timeout_seconds: float = 60.0
    settings: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        reason = unavailable(self.backend) or unknown_settings(self.backend, self.settings)
        if reason:
            raise BackendError(reason)
        if not 1 < self.world_size <= MOST_RANKS:
            raise BackendError(f"a world of {self.world_size} ranks; give 2 to {MOST_RANKS} on one machine")
        if self.threads < 1:
            raise BackendError(f"{self.threads} threads a rank; give at least 1")


@dataclass(frozen=True, slots=True)
class Place:
    """Where one rank runs: a command before Python's (a network namespace, say) and variables of its own."""

    prefix: tuple[str, ...] = ()
    variables: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class MeasuredSteps:
    """What a launch's steps took, warm-up excluded.

    ranks:  for each rank, the times of its steps.
    losses: for each rank, the loss of each step.
    transport: what the gradients went through, as the backend reports it.
    """

    backend: str
    transport: str
    ranks: tuple[tuple[StepTimes, ...], ...]
    losses: tuple[tuple[float, ...], ...]

    @property
    def steps(self) -> tuple[StepTimes, ...]:
        """Return each step's times, the mean over its ranks."""
        return tuple(mean_of_ranks(step) for step in zip(*self.ranks, strict=True))

    @property
    def median(self) -> StepTimes:
        """Return the split of the step whose length is the median (the lower one of two)."""
        steps = self.steps
        middle = statistics.median_low(step.seconds for step in steps)
        return next(step for step in steps if step.seconds == middle)


def placement_launch(reference: WorkloadReference, backend: str, **choices: Any) -> PlacementLaunch:
    """Return the launch of a referenced training workload; choices are PlacementLaunch's fields."""
    return PlacementLaunch(*baseline_entry(reference), backend, **choices)


def baseline_entry(reference: WorkloadReference) -> Entry:
    """Return the entry and argument that build a referenced workload as it is."""
    return "analyzer.variant:rebuild_baseline", reference.as_dict()


def candidate_entry(folder: Path) -> Entry:
    """Return the entry and argument that build the candidate saved in a folder."""
    return "optimizers.candidate:launch_candidate", {"candidate": str(folder)}


def run_steps(
    launch: PlacementLaunch,
    steps: int,
    *,
    warmup: int = WARMUP_STEPS,
    places: Sequence[Place] = (),
    meeting: Meeting | None = None,
) -> MeasuredSteps:
    """Return what the steps of a launch took, each rank in a process of its own; nothing of them is left after it.

    places:  where each rank runs; plain processes by default.
    meeting: where they meet; rank 0 must be able to listen there. By default a store in this process, on loopback.
    Raises BackendError, naming the rank, when one fails, dies or hangs.
    """
    with Ranks(launch, places=places, meeting=meeting) as ranks:
        if warmup:
            ranks.steps(warmup)
        return ranks.steps(steps)


class Ranks:
    """All ranks of a launch, built and connected, in processes of their own. Use it as a context manager."""

    def __init__(
        self, launch: PlacementLaunch, *, places: Sequence[Place] = (), meeting: Meeting | None = None
    ) -> None:
        self.launch = launch
        self._store: TCPStore | None = None
        if meeting is None:
            self._store, meeting = meeting_point(launch.timeout_seconds)
        by_rank = dict(enumerate(places))
        self._workers = start(launch, meeting, range(launch.world_size), by_rank, hosted=self._store is None)
        try:
            built = self._workers.ask("build", BUILD_SECONDS + launch.timeout_seconds, launch=to_plain(launch))
        except BaseException:
            self.close()
            raise
        self.transport = str(built[0]["transport"])

    def __enter__(self) -> Ranks:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def process_ids(self) -> tuple[int, ...]:
        """Return the ids of the ranks' processes, in their order."""
        return self._workers.process_ids

    def steps(self, count: int, seeds: Sequence[int] | None = None) -> MeasuredSteps:
        """Run steps on all ranks. seeds: a batch for each step, in place of the first one over and over."""
        limit = self.launch.timeout_seconds * max(count, 1)
        replies = self._workers.ask("steps", limit, count=count, seeds=None if seeds is None else list(seeds))
        return MeasuredSteps(
            self.launch.backend,
            self.transport,
            tuple(tuple(StepTimes(*step) for step in reply["times"]) for reply in replies),
            tuple(tuple(reply["losses"]) for reply in replies),
        )

    def save(self, paths: Sequence[str]) -> None:
        """Write each rank's parameters and buffers to a file of its own (safetensors)."""
        for rank, path in enumerate(paths):
            self._workers.ask_one(rank, "save", self.launch.timeout_seconds, path=path)

    def evaluate(self) -> Mapping[str, float]:
        """Return rank 0's metrics."""
        metrics: Mapping[str, float] = self._workers.ask_one(0, "evaluate", self.launch.timeout_seconds)["metrics"]
        return metrics

    def close(self) -> None:
        """End every rank; harmless the second time."""
        self._workers.close()
        self._store = None


def meeting_point(timeout_seconds: float) -> tuple[TCPStore, Meeting]:
    """Return a store on loopback, on a free port, and its address with a fresh secret."""
    store = TCPStore(
        LOOPBACK, 0, None, is_master=True, timeout=timedelta(seconds=timeout_seconds), wait_for_workers=False
    )
    return store, Meeting(LOOPBACK, store.port)


def start(
    launch: PlacementLaunch,
    meeting: Meeting,
    ranks: Sequence[int],
    places: Mapping[int, Place],
    *,
    hosted: bool = False,
) -> Workers:
    """Return the ranks' processes, not built yet. hosted: rank 0 opens the store, in place of this process."""
    with ExitStack() as stack:
        processes: list[RankProcess] = []
        for rank in ranks:
            place = places.get(rank, Place())
            variables = {**dict(place.variables), **({"TORCHELASTIC_USE_AGENT_STORE": "False"} if hosted else {})}
            process = RankProcess(
                rank, launch.world_size, meeting, threads=launch.threads, prefix=place.prefix, variables=variables
            )
            processes.append(process)
            stack.callback(process.end)
        stack.pop_all()
        return Workers(processes)
