"""Fused models against eager, torch's own recurrent kernels, Inductor and ONNX Runtime, on the CPU in float32.

`latency` is seconds of one step; `compile_seconds` is from the model to the end of its first call, with empty caches.
Ratios are peer / ours. `--case ID` (may be repeated) measures only some cases, and then writes no result, unless
`--keep` puts them into the committed one.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from analyzer.errors import HotbenchError
from analyzer.progress import Progress, part
from benchmarks import command
from benchmarks.contract import Benchmark, Missing, Outcome, Promise, Row, Settings, interleave, row_of_samples
from benchmarks.fusion_merge import keep
from benchmarks.fusion_models import AUTOTUNE, CASES, INDUCTOR, ONNX, Case, case_of
from benchmarks.fusion_peers import OURS, unavailable
from benchmarks.fusion_process import WorkerProcess

LATENCY, COMPILE = "latency", "compile_seconds"
COMPILING = (INDUCTOR, AUTOTUNE, ONNX)
QUICK = ("chain20-1e4", "encoder-nonmatmul", "lstm-t100-b1-h64")
FROM_CACHE = "lstm-t100-b1"
"""Cases of this prefix are compiled a second time, from the cache; that figure stands in the details."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How long a run may take: rounds of samples, seconds of a block, of one preparation, and of the whole run."""

    threads: tuple[int, ...]
    rounds: int
    block_seconds: float
    prepare_seconds: float
    total_seconds: float


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
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hotbench-fusion-")))
        workers: dict[str, WorkerProcess] = {}
        compiled: dict[str, dict[str, Any]] = {}
        for number, peer in enumerate((OURS, *peers)):
            if number and OURS not in workers:
                return
            progress(f"{key}: preparing {peer}", number / (len(peers) + 2))
            try:
                found.refuse_again(case, peer)
                limit = _limit(effort, stop)
                variables = _caches(folder / peer)
                worker = stack.enter_context(WorkerProcess(case.id, peer, threads, effort.block_seconds, variables))
                compiled[peer] = worker.ready(limit)
                workers[peer] = worker
            except HotbenchError as error:
                found.add_missing(case, peer, key, str(error))
        measured = {"measured": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
        found.details[key] = {**measured, **compiled, **_from_cache(case, threads, effort, folder)}
        progress(f"{key}: measuring", (len(peers) + 1) / (len(peers) + 2))
        samples = interleave({peer: _sampler(worker) for peer, worker in workers.items()}, effort.rounds)
        for peer, values in samples.items():
            if not all(map(math.isfinite, values)):
                found.add_missing(case, peer, key, "its process ended, or hung, while it was being measured")
        whole = {peer: values for peer, values in samples.items() if all(map(math.isfinite, values))}
        found.rows += rows_of(case, threads, whole, compiled)


def _limit(effort: Effort, stop: float) -> float:
    """Return the seconds that a preparation may take. Raises HotbenchError if there are none left."""
    left = min(effort.prepare_seconds, stop - time.monotonic())
    if left <= 0:
        raise HotbenchError("left out: the time of --quick is used up")
    return left


def _sampler(worker: WorkerProcess) -> Callable[[], float]:
    """Return a function that gives a sample, and NaN from the first failure on."""
    failed = False

    def sample() -> float:
        nonlocal failed
        try:
            return math.nan if failed else worker.sample()
        except HotbenchError:
            failed = True
            worker.end()
            return math.nan

    return sample


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


def _caches(folder: Path) -> dict[str, str]:
    """Return the variables that give compilers caches of their own, empty at first."""
    return {"HOTBENCH_CACHE": str(folder / "hotbench"), "TORCHINDUCTOR_CACHE_DIR": str(folder / "inductor")}


def _from_cache(case: Case, threads: int, effort: Effort, folder: Path) -> dict[str, Any]:
    if not case.id.startswith(FROM_CACHE):
        return {}
    with WorkerProcess(case.id, OURS, threads, effort.block_seconds, _caches(folder / OURS)) as worker:
        try:
            return {"from_cache": worker.ready(effort.prepare_seconds)}
        except HotbenchError as error:
            return {"from_cache": {"refused": str(error)}}


def promises(cases: Sequence[Case] = CASES) -> tuple[Promise, ...]:
    """Return the rows that a full run over the cases gives."""
    latency = [Promise(case.id, peer, LATENCY) for case in cases for peer in case.peers]
    compiling = [Promise(case.id, peer, COMPILE) for case in cases for peer in case.peers if peer in COMPILING]
    return (*latency, *compiling)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--case", action="append", default=[], help="measure this case only (may be repeated)")
    parser.add_argument(
        "--keep", action="store_true", help="put what --case measured in full into the committed result"
    )
    own, rest = parser.parse_known_args(arguments)
    if {"-h", "--help"} & set(rest):
        print(parser.format_help())
    try:
        if not own.case:
            return command.main(BENCHMARK, rest)
        return _some([case_of(name) for name in own.case], rest, own.keep)
    except HotbenchError as error:
        print(f"benchmarks.fusion: {error}", file=sys.stderr)
        return 2


def _some(cases: Sequence[Case], arguments: Sequence[str], kept: bool) -> int:
    """Measure some cases; keep the result if it is wanted and whole."""
    some = Benchmark("fusion", promises(cases), lambda settings: measure(settings, cases))
    with tempfile.TemporaryDirectory(prefix="hotbench-fusion-") as folder:
        code = command.main(some, arguments, Path(folder))
        for path in Path(folder).glob("*.json") if kept else ():
            print(f"kept in {keep(some, path, [case.id for case in cases])}", file=sys.stderr)
    return code


BENCHMARK = Benchmark("fusion", promises(), measure)

if __name__ == "__main__":
    sys.exit(main())
