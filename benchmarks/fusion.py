"""Fused models against eager, torch's own recurrent kernels, Inductor and ONNX Runtime, on the CPU in float32.

`latency` is seconds of one step; `compile_seconds` is from the model to the end of its first call, with empty caches.
Ratios are peer / ours. `--case ID` (may be repeated) measures only some cases, `--threads N` only on so many threads;
then no result is written, unless `--keep` puts them into the committed one. `--without PEER` leaves a peer out.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from analyzer.errors import HotbenchError
from analyzer.progress import Progress, part
from benchmarks import cases_command
from benchmarks.cases_command import Chosen
from benchmarks.contract import Benchmark, Missing, Outcome, Promise, Row, Settings, row_of_samples
from benchmarks.fusion_models import AUTOTUNE, CASES, INDUCTOR, ONNX, Case, case_of
from benchmarks.fusion_peers import OURS, unavailable
from benchmarks.fusion_process import WorkerProcess
from benchmarks.turns import Effort, ask, caches

LATENCY, COMPILE = "latency", "compile_seconds"
COMPILING = (INDUCTOR, AUTOTUNE, ONNX)
QUICK = ("chain20-1e4", "encoder-nonmatmul", "lstm-t100-b1-h64")
FROM_CACHE = "lstm-t100-b1"
"""Cases of this prefix are compiled a second time, from the cache; that figure stands in the details."""


FULL = Effort((1, 2), 15, 0.1, 300.0, float("inf"))
BRIEF = Effort((1,), 5, 0.02, 25.0, 42.0)


@dataclass
class Findings:
    """What has been measured so far."""

    rows: list[Row] = field(default_factory=list)
    missing: list[Missing] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)
    refused: dict[tuple[str, str], str] = field(default_factory=dict)
    """(case, peer) -> why; it is not tried again with more threads, which may cost minutes."""

    def add_missing(self, case: Case, peer: str, key: str, why: str) -> None:
        """Note that a peer was not measured."""
        self.missing.append(Missing(peer, f"{key}: {why}"))
        self.refused[case.id, peer] = why

    def refuse_again(self, case: Case, peer: str) -> None:
        """Raise HotbenchError if the peer refused the case before."""
        if (case.id, peer) in self.refused:
            raise HotbenchError(f"not tried again: {self.refused[case.id, peer].removeprefix('not tried again: ')}")


def measure(settings: Settings, cases: Sequence[Case] = CASES, effort: Effort | None = None) -> Outcome:
    """Return the rows of the cases."""
    chosen = effort or (BRIEF if settings.quick else FULL)
    stop = time.monotonic() + chosen.total_seconds
    wanted = [case_of(name) for name in QUICK] if settings.quick and len(cases) == len(CASES) else list(cases)
    turns = [(case, threads) for threads in chosen.threads for case in wanted]
    absent = {} if settings.quick else {peer: reason for peer in COMPILING if (reason := unavailable(peer))}
    found = Findings(missing=[Missing(peer, reason) for peer, reason in absent.items()])
    for position, (case, threads) in enumerate(turns):
        progress = part(settings.progress, position / len(turns), (position + 1) / len(turns))
        peers = [peer for peer in case.peers if peer not in (COMPILING if settings.quick else absent)]
        measure_case(case, peers, threads, chosen, stop, found, progress)
    if settings.quick:
        why = "left out by --quick: it takes longer than there is"
        found.missing += [Missing(peer, unavailable(peer) or why) for peer in COMPILING]
    return Outcome(tuple(found.rows), tuple(found.missing), found.details)


def measure_case(
    case: Case,
    peers: Sequence[str],
    threads: int,
    effort: Effort,
    stop: float,
    found: Findings,
    progress: Progress,
) -> None:
    """Add the rows of one case: every peer in a process of its own, with empty caches, asked in turns."""
    key = f"{case.id}, {threads} threads"
    with tempfile.TemporaryDirectory(prefix="hotbench-fusion-") as folder:

        def start(peer: str) -> WorkerProcess:
            found.refuse_again(case, peer)
            return WorkerProcess(case.id, peer, threads, effort.block_seconds, caches(Path(folder, peer)))

        asked = ask(key, (OURS, *peers), start, effort, stop, progress)
        for peer, why in asked.missing.items():
            found.add_missing(case, peer, key, why)
        if OURS in asked.ready:
            from_cache = _from_cache(case, threads, effort, Path(folder))
            found.details[key] = {**asked.surroundings, **asked.ready, **from_cache}
            found.rows += rows_of(case, threads, asked.samples, asked.ready)


def rows_of(
    case: Case, threads: int, samples: dict[str, tuple[float, ...]], compiled: dict[str, dict[str, Any]]
) -> Iterator[Row]:
    """Yield the rows of every peer that was measured."""
    for peer, theirs in samples.items():
        if peer == OURS or OURS not in samples:
            continue
        yield row_of_samples(Promise(case.id, peer, LATENCY), threads, samples[OURS], theirs)
        if peer in COMPILING:
            seconds = [[compiled[name][COMPILE]] for name in (OURS, peer)]
            yield row_of_samples(Promise(case.id, peer, COMPILE), threads, *seconds)


def _from_cache(case: Case, threads: int, effort: Effort, folder: Path) -> dict[str, Any]:
    if not case.id.startswith(FROM_CACHE):
        return {}
    with WorkerProcess(case.id, OURS, threads, effort.block_seconds, caches(folder / OURS)) as worker:
        try:
            return {"from_cache": worker.ready(effort.prepare_seconds)}
        except HotbenchError as error:
            return {"from_cache": {"refused": str(error)}}


def promises(cases: Sequence[Case] = CASES) -> tuple[Promise, ...]:
    """Return the rows that a full run over the cases gives."""
    latency = [Promise(case.id, peer, LATENCY) for case in cases for peer in case.peers]
    compiling = [Promise(case.id, peer, COMPILE) for case in cases for peer in case.peers if peer in COMPILING]
    return (*latency, *compiling)


def _some(chosen: Chosen) -> Benchmark:
    """Return the benchmark of some cases alone. Raises HotbenchError for one that there is not."""
    wanted = [case_of(name) for name in chosen.cases]
    cases = [replace(case, peers=tuple(peer for peer in case.peers if peer not in chosen.without)) for case in wanted]
    left = [(peer, case.id, count) for peer in chosen.without for case in cases for count in chosen.threads]

    def measured(settings: Settings) -> Outcome:
        outcome = measure(settings, cases, None if settings.quick else replace(FULL, threads=chosen.threads))
        missing = (Missing(peer, f"{case}, {count} threads: left out by --without") for peer, case, count in left)
        return replace(outcome, missing=(*outcome.missing, *missing))

    return Benchmark("fusion", promises(cases), measured)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    return cases_command.main(BENCHMARK, _some, FULL.threads, arguments, COMPILING)


BENCHMARK = Benchmark("fusion", promises(), measure)

if __name__ == "__main__":
    sys.exit(main())
