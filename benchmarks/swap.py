"""Training in less memory: peak over base and seconds a step, swapped by a plan, against the other ways to do it.

MODEL-CUT and front-transformer: by how many percent the plan cuts the plain step's peak over its base (parameters,
optimizer state, inputs). budgets-MODEL: 20 budgets, are they kept and was the simulator right. bits-MODEL: parameters
after 20 steps with dropout, the same bytes. planner-5000…: how long a plan takes. On one thread. `--case ID` (may be
repeated) measures only some cases, and then writes no result, unless `--keep` puts them into the committed one.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Sequence
from functools import partial

import torch

from analyzer.errors import HotbenchError
from analyzer.progress import Progress, part
from benchmarks import cases_command, swap_bits, swap_budgets, swap_cuts, swap_planner
from benchmarks.cases_command import Chosen
from benchmarks.contract import Benchmark, Outcome, Settings
from benchmarks.swap_findings import BRIEF, FULL, Effort, Findings
from benchmarks.swap_peers import PEERS

PROMISES = (*swap_cuts.promises(), *swap_budgets.promises(), *swap_bits.promises(), *swap_planner.promises())
CASES = tuple(dict.fromkeys(promise.case for promise in PROMISES))
QUICK = (swap_cuts.QUICK_CASE, *swap_planner.CASES, "bits-lstm")
THREADS = 1

Part = Callable[[Effort, Findings, Progress], None]


def measure(settings: Settings, cases: Sequence[str] = CASES) -> Outcome:
    """Return the rows of the cases; quick: of those that fit into a minute."""
    effort, found = BRIEF if settings.quick else FULL, Findings()
    parts = _parts([case for case in cases if case in QUICK or not settings.quick], settings.quick)
    threads = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    try:
        for place, work in enumerate(parts):
            work(effort, found, part(settings.progress, place / len(parts), (place + 1) / len(parts)))
            gc.collect()
    finally:
        torch.set_num_threads(threads)
    return Outcome(tuple(found.rows), found.absent(), found.details)


def _parts(cases: Sequence[str], quick: bool) -> list[Part]:
    """Return what is to be done, the cases of one model that are measured in turns together."""
    peers = swap_cuts.QUICK_PEERS if quick else tuple(PEERS)
    cuts = [case for case in cases if case in swap_cuts.CASES]
    parts: list[Part] = [partial(swap_cuts.measure, model, some, peers) for model, some in swap_cuts.sittings(cuts)]
    for module in (swap_budgets, swap_bits, swap_planner):
        parts += [partial(module.measure, case) for case in cases if case in module.CASES]
    return parts


def _some(chosen: Chosen) -> Benchmark:
    """Return the benchmark of some cases alone. Raises HotbenchError for one that there is not."""
    unknown = [case for case in chosen.cases if case not in CASES]
    if unknown:
        raise HotbenchError(f"no case {unknown[0]!r}; choose from {', '.join(CASES)}")
    promised = tuple(promise for promise in PROMISES if promise.case in chosen.cases)
    return Benchmark("swap", promised, lambda settings: measure(settings, chosen.cases))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    return cases_command.main(BENCHMARK, _some, (THREADS,), arguments)


BENCHMARK = Benchmark("swap", PROMISES, measure)

if __name__ == "__main__":
    sys.exit(main())
