"""p2p-shm: one tensor from process to process on one host, acknowledged, by size and way to send."""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack

from analyzer.errors import HotbenchError
from analyzer.progress import Progress, part
from benchmarks.contract import Promise, interleave, row_of_samples
from benchmarks.placement_crowd import BUILD_SECONDS, crowd
from benchmarks.placement_findings import LATENCY, Effort, Findings
from benchmarks.placement_peers import OURS, PEERS
from optimizers.placement.workers import Workers

SIZES = {
    "p2p-shm-64k": (1 << 16, 30),
    "p2p-shm-256k": (1 << 18, 30),
    "p2p-shm-1m": (1 << 20, 20),
    "p2p-shm-4m": (4 << 20, 10),
    "p2p-shm-64m": (64 << 20, 3),
}
"""Bytes, and transfers a sample."""
THEIRS = tuple(name for name in PEERS if name != OURS)


def promises() -> tuple[Promise, ...]:
    """Return the rows of a full run."""
    return tuple(Promise(case, peer, LATENCY) for case in SIZES for peer in THEIRS)


def measure(cases: Sequence[str], peers: Sequence[str], effort: Effort, found: Findings, progress: Progress) -> None:
    """Add the rows of the cases: every peer's pair of processes lives on, and they take turns."""
    most = max(SIZES[case][0] for case in cases)
    with ExitStack() as stack:
        pairs: dict[str, Workers] = {}
        for place, name in enumerate((OURS, *peers)):
            progress(f"starting {name}", 0.3 * place / (len(peers) + 1))
            try:
                with ExitStack() as starting:
                    pair = starting.enter_context(crowd(2))
                    replies = pair.ask("connect", BUILD_SECONDS, method=name, most_bytes=most)
                    stack.push(starting.pop_all())
            except HotbenchError as error:
                found.add_missing(name, f"p2p-shm: {error}")
                continue
            pairs[name] = pair
            found.details.setdefault("p2p-shm", {})[name] = replies[0]["transport"]
        if OURS not in pairs:
            return
        for place, case in enumerate(cases):
            share = part(progress, 0.3 + 0.7 * place / len(cases), 0.3 + 0.7 * (place + 1) / len(cases))
            _measure_case(case, pairs, effort, found, share)


def _measure_case(case: str, pairs: Mapping[str, Workers], effort: Effort, found: Findings, progress: Progress) -> None:
    count, repeats = SIZES[case]
    samplers = {name: _sampler(pair, count, repeats) for name, pair in pairs.items()}
    samples = interleave(samplers, effort.rounds, progress=progress)
    for name, theirs in samples.items():
        if name != OURS:
            found.rows.append(row_of_samples(Promise(case, name, LATENCY), 1, samples[OURS], theirs))


def _sampler(pair: Workers, count: int, repeats: int) -> Callable[[], float]:
    def sample() -> float:
        seed = random.getrandbits(31)
        sent, _ = pair.ask("transfer", BUILD_SECONDS, count=count, repeats=repeats, seed=seed)
        return statistics.median(sent["seconds"])

    return sample
