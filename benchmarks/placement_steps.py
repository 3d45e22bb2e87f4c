"""step-shm and step-tcp: a data-parallel training step of two workers, by model and way to exchange gradients."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from analyzer.errors import HotbenchError
from analyzer.progress import Progress, part
from analyzer.record import to_plain
from analyzer.workload import load_workload
from benchmarks.contract import Promise, interleave, row_of_samples
from benchmarks.placement_findings import STEP, Effort, Findings
from benchmarks.placement_hosts import Hosts, two_hosts
from benchmarks.placement_models import MODELS, name_of
from optimizers.placement.backends import BASELINES, OURS
from optimizers.placement.launch import MeasuredSteps, Ranks, placement_launch
from optimizers.placement.step_times import StepTimes

SHM, TCP = "step-shm", "step-tcp"
WARMUP = 5


def promises() -> tuple[Promise, ...]:
    """Return the rows of a full run."""
    return tuple(
        Promise(f"{kind}-{model}", peer, STEP) for kind in (SHM, TCP) for model in MODELS for peer in BASELINES
    )


def measure(case: str, peers: Sequence[str], effort: Effort, found: Findings, progress: Progress) -> None:
    """Add the rows of a case; over TCP the two workers live in network namespaces of their own."""
    kind, _, model = case.rpartition("-")
    if kind == SHM:
        _measure(case, model, peers, None, effort, found, progress)
        return
    try:
        with two_hosts() as hosts:
            _measure(case, model, peers, hosts, effort, found, progress)
    except HotbenchError as error:
        for peer in peers:
            found.add_missing(peer, f"{case}: {error}")


@dataclass
class _Contender:
    """One backend's ranks, and what they measured."""

    ranks: Ranks
    steps: int
    blocks: list[MeasuredSteps] = field(default_factory=list)

    def sample(self) -> float:
        """Return the median seconds of a few steps."""
        block = self.ranks.steps(self.steps)
        self.blocks.append(block)
        return statistics.median(step.seconds for step in block.steps)

    def split(self) -> dict[str, Any]:
        """Return the medians of a step's parts, by name, and what the gradients went through."""
        steps = [step for block in self.blocks for step in block.steps]
        parts = {name: statistics.median(getattr(step, name) for step in steps) for name in to_plain(steps[0])}
        return {
            **to_plain(StepTimes(**parts)),
            "transport": self.ranks.transport,
            "loss": self.blocks[-1].losses[0][-1],
        }


def _measure(
    case: str,
    model: str,
    peers: Sequence[str],
    hosts: Hosts | None,
    effort: Effort,
    found: Findings,
    progress: Progress,
) -> None:
    with ExitStack() as stack:
        contenders: dict[str, _Contender] = {}
        for place, name in enumerate((OURS, *peers)):
            progress(f"{case}: starting {name}", 0.5 * place / (len(peers) + 1))
            try:
                ranks = stack.enter_context(_ranks(model, name, hosts, place))
                ranks.steps(WARMUP)
            except HotbenchError as error:
                found.add_missing(name, f"{case}: {error}")
                continue
            contenders[name] = _Contender(ranks, effort.steps)
        if OURS not in contenders:
            return
        samplers: Mapping[str, Callable[[], float]] = {name: item.sample for name, item in contenders.items()}
        samples = interleave(samplers, effort.rounds, progress=part(progress, 0.5, 1.0))
        for name, theirs in samples.items():
            if name != OURS:
                found.rows.append(row_of_samples(Promise(case, name, STEP), 1, samples[OURS], theirs))
        found.details[case] = {name: item.split() for name, item in contenders.items()}


def _ranks(model: str, backend: str, hosts: Hosts | None, number: int) -> Ranks:
    _, reference = load_workload(name_of(model))
    if hosts is None:
        return Ranks(placement_launch(reference, backend))
    # UCX would still find shared memory between namespaces of one machine.
    settings = {"transports": "tcp", "interface": hosts.interface} if backend == OURS else {}
    launch = placement_launch(reference, backend, settings=settings)
    return Ranks(launch, places=hosts.places(launch.world_size), meeting=hosts.meeting(number))
