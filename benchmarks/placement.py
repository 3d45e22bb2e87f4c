"""Exchanging tensors between processes: ours against gRPC, gloo and torch's RPC, on this machine.

`latency`: seconds from the call until one tensor lies in the receiver's buffer and the sender knows it.
`step_seconds`: a step of a training on two workers. `seconds_to_loss`: steps until the translation example has learned
enough. `intact_deliveries`: of 100,000 transfers. Cases simulator-… set predicted seconds beside measured ones.
`--case ID` (may be repeated) measures only some cases, and then writes no result, unless `--keep` puts them into the
committed one.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from analyzer.errors import HotbenchError
from analyzer.progress import Progress, part
from benchmarks import (
    command,
    placement_deliveries,
    placement_simulated,
    placement_steps,
    placement_transfers,
    placement_translation,
)
from benchmarks.contract import Benchmark, Outcome, Promise, Settings
from benchmarks.fusion_merge import keep
from benchmarks.placement_findings import BRIEF, FULL, Effort, Findings
from optimizers.placement.backends import BASELINES

PROMISES = (
    *placement_transfers.promises(),
    *placement_steps.promises(),
    *placement_translation.promises(),
    *placement_deliveries.promises(),
    *placement_simulated.promises(),
)
CASES = tuple(dict.fromkeys(promise.case for promise in PROMISES))
QUICK = ("p2p-shm-1m", "step-shm-mlp")
QUICK_PEERS = ("gloo", "grpc")


def measure(settings: Settings, cases: Sequence[str] = CASES) -> Outcome:
    """Return the rows of the cases."""
    effort = BRIEF if settings.quick else FULL
    wanted = [case for case in cases if case in QUICK or not settings.quick]
    found = Findings()
    parts = _parts(wanted, settings.quick)
    for place, work in enumerate(parts):
        work(effort, found, part(settings.progress, place / len(parts), (place + 1) / len(parts)))
    if settings.quick:
        for peer in sorted({promise.peer for promise in PROMISES} - set(QUICK_PEERS)):
            found.add_missing(peer, "left out by --quick: starting its processes takes longer than there is")
    return Outcome(tuple(found.rows), tuple(found.missing), found.details)


Part = Callable[[Effort, Findings, Progress], None]


def _parts(cases: Sequence[str], quick: bool) -> list[Part]:
    """Return what is to be done: case by case, but those together that share processes or calibration."""
    transfers = [case for case in cases if case in placement_transfers.SIZES]
    parts: list[Part] = []
    if transfers:
        peers = QUICK_PEERS if quick else placement_transfers.THEIRS
        parts.append(lambda *rest: placement_transfers.measure(transfers, peers, *rest))
    simulated = [case for case in cases if case in placement_simulated.CASES]
    others = [case for case in cases if case not in transfers and case not in simulated]
    parts += [_part(case, QUICK_PEERS if quick else BASELINES) for case in others]
    if simulated:
        parts.append(lambda effort, found, progress: placement_simulated.measure(simulated, found, progress))
    return parts


def _part(case: str, peers: Sequence[str]) -> Part:
    if case == placement_translation.CASE:
        return lambda *rest: placement_translation.measure(peers, *rest)
    if case in placement_deliveries.TRANSPORTS:
        return lambda *rest: placement_deliveries.measure(case, *rest)
    return lambda *rest: placement_steps.measure(case, peers, *rest)


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
        unknown = [case for case in own.case if case not in CASES]
        if unknown:
            raise HotbenchError(f"no case {unknown[0]!r}; choose from {', '.join(CASES)}")
        if not own.case:
            return command.main(BENCHMARK, rest)
        return _some(own.case, rest, own.keep)
    except HotbenchError as error:
        print(f"benchmarks.placement: {error}", file=sys.stderr)
        return 2


def _some(cases: Sequence[str], arguments: Sequence[str], kept: bool) -> int:
    """Measure some cases; keep the result if it is wanted and whole."""
    promised: tuple[Promise, ...] = tuple(promise for promise in PROMISES if promise.case in cases)
    some = Benchmark("placement", promised, lambda settings: measure(settings, cases))
    with tempfile.TemporaryDirectory(prefix="hotbench-placement-") as folder:
        code = command.main(some, arguments, Path(folder))
        for path in Path(folder).glob("*.json") if kept else ():
            print(f"kept in {keep(some, path, cases)}", file=sys.stderr)
    return code


BENCHMARK = Benchmark("placement", PROMISES, measure)

if __name__ == "__main__":
    sys.exit(main())
