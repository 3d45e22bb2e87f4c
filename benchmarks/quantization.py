"""Compressed models against torch and other libraries on the CPU, weights cold in cache where that matters.

`latency` is seconds of one step (of fits: CPU seconds), `size_bytes` of what is stored; `agreement` and `cosine` are
those with torch-f32's answers to 1,500 texts. Ratios are peer / ours, or ours / peer where more is better; against
torch-f32 agreement and cosine are ours themselves. `--case ID` (may be repeated) measures only some cases,
`--threads N` only on so many threads; then no result is written, unless `--keep` puts them into the committed one.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from analyzer.progress import Progress, part
from benchmarks import cases_command, turns
from benchmarks.cases_command import Chosen
from benchmarks.contract import Benchmark, Missing, Outcome, Promise, Row, Settings, row_of_samples
from benchmarks.fusion_process import WorkerProcess
from benchmarks.quantization_answers import answers_of
from benchmarks.quantization_cases import CASES, FLOAT, HIGHER_IS_BETTER, LATENCY, Case, case_of
from benchmarks.quantization_prepared import OURS, unavailable
from kernels.quantized.cpu_features import host_features

WORKER = "benchmarks.quantization_worker"
QUICK = ("gemv-4096x4096-k4", "minilm-f32")
_COMPARED_FEATURES = ("avx2", "avx512f", "avx512vnni", "avx512bf16", "amx-int8")


@dataclass(frozen=True, slots=True)
class Effort(turns.Effort):
    """How long a run may take, and on how many texts answers are compared (0: on none)."""

    texts: int


FULL = Effort((1, 2), 15, 0.1, 900.0, float("inf"), 1500)
BRIEF = Effort((1,), 5, 0.02, 25.0, 42.0, 0)


@dataclass
class Findings:
    """What has been measured so far."""

    rows: list[Row] = field(default_factory=list)
    missing: list[Missing] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)


@dataclass
class Measured:
    """What is known of one case on some threads, by peer."""

    samples: dict[str, tuple[float, ...]]
    facts: dict[str, dict[str, float]]


def measure(settings: Settings, cases: Sequence[Case] = CASES, effort: Effort | None = None) -> Outcome:
    """Return the rows of the cases."""
    chosen = effort or (BRIEF if settings.quick else FULL)
    stop = time.monotonic() + chosen.total_seconds
    wanted = [case_of(name) for name in QUICK] if settings.quick and len(cases) == len(CASES) else list(cases)
    order = [(case, threads) for threads in chosen.threads for case in wanted]
    peers = dict.fromkeys(peer for case in CASES for peer in case.peers)
    absent = {peer: reason for peer in peers if (reason := unavailable(peer))}
    present = host_features()
    features = {name: bool(present.get(name)) for name in _COMPARED_FEATURES}
    found = Findings(missing=[Missing(*item) for item in absent.items()], details={"cpu_features": features})
    for position, (case, threads) in enumerate(order):
        progress = part(settings.progress, position / len(order), (position + 1) / len(order))
        measure_case(case, [peer for peer in case.peers if peer not in absent], threads, chosen, stop, found, progress)
    if settings.quick:
        tried = {peer for case in wanted for peer in case.peers}
        found.missing += [Missing(peer, "left out by --quick") for peer in peers if peer not in {*tried, *absent}]
    return Outcome(tuple(found.rows), tuple(found.missing), found.details)


def measure_case(
    case: Case, peers: Sequence[str], threads: int, effort: Effort, stop: float, found: Findings, progress: Progress
) -> None:
    """Add the rows of one case: every peer in a process of its own, asked in turns."""
    key = f"{case.id}, {threads} threads"
    rounds = min(effort.rounds, 3) if case.once else effort.rounds
    with tempfile.TemporaryDirectory(prefix="hotbench-quantization-") as name:
        folder = Path(name)

        def start(peer: str) -> WorkerProcess:
            return _worker(case, peer, threads, effort, folder)

        asked = turns.ask(key, (OURS, *peers), start, replace(effort, rounds=rounds), stop, progress)
        found.missing += [Missing(peer, f"{key}: {why}") for peer, why in asked.missing.items()]
        if OURS not in asked.ready:
            return
        facts = {peer: dict(answer["facts"]) for peer, answer in asked.ready.items()}
        for peer, compared in _compared(asked.ready, folder).items():
            facts[peer] |= compared
        found.rows += rows_of(case, threads, Measured(asked.samples, facts))
        found.details[key] = {**asked.surroundings, **_details(asked.ready, facts)}


def _worker(case: Case, peer: str, threads: int, effort: Effort, folder: Path) -> WorkerProcess:
    """Return a worker with caches of its own, empty at first."""
    more = (str(effort.texts), str(folder / f"{peer}.npy")) if effort.texts else ()
    return WorkerProcess(case.id, peer, threads, effort.block_seconds, turns.caches(folder / peer), WORKER, more)


def _compared(ready: Mapping[str, Mapping[str, Any]], folder: Path) -> dict[str, dict[str, float]]:
    """Return how far each peer's answers are from those of torch-f32; nothing where there are none."""
    vectors = {peer: np.load(path) for peer in ready if (path := folder / f"{peer}.npy").exists()}
    classes = next((answer["classes"] for answer in ready.values() if answer["classes"]), [])
    return answers_of(vectors, FLOAT, classes)


def _details(ready: Mapping[str, Any], facts: Mapping[str, Any]) -> dict[str, Any]:
    return {
        peer: {"compile_seconds": answer["compile_seconds"], "said": answer["said"], **facts[peer]}
        for peer, answer in ready.items()
    }


def rows_of(case: Case, threads: int, measured: Measured) -> Iterator[Row]:
    """Yield the rows of every peer that was measured."""
    if OURS not in measured.samples:
        return
    for peer in case.peers:
        for metric in case.metrics:
            if metric == LATENCY and peer in measured.samples:
                samples = [measured.samples[OURS], measured.samples[peer]]
            elif metric in measured.facts[OURS] and metric in measured.facts.get(peer, {}):
                samples = [(measured.facts[name][metric],) for name in (OURS, peer)]
            else:
                continue
            higher = metric in HIGHER_IS_BETTER
            yield row_of_samples(Promise(case.id, peer, metric), threads, *samples, higher_is_better=higher)


def promises(cases: Sequence[Case] = CASES) -> tuple[Promise, ...]:
    """Return the rows that a full run over the cases gives."""
    return tuple(Promise(case.id, peer, metric) for case in cases for peer in case.peers for metric in case.metrics)


def _some(chosen: Chosen) -> Benchmark:
    """Return the benchmark of some cases alone. Raises HotbenchError for one that there is not."""
    cases = [case_of(name) for name in chosen.cases]

    def measured(settings: Settings) -> Outcome:
        return measure(settings, cases, BRIEF if settings.quick else replace(FULL, threads=chosen.threads))

    return Benchmark("quantization", promises(cases), measured)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    return cases_command.main(BENCHMARK, _some, FULL.threads, arguments)


BENCHMARK = Benchmark("quantization", promises(), measure)

if __name__ == "__main__":
    sys.exit(main())
