"""The command line of benchmarks that can measure some of their cases, and keep those in the committed result."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from analyzer.errors import HotbenchError
from benchmarks import command
from benchmarks.contract import Benchmark
from benchmarks.fusion_merge import keep


@dataclass(frozen=True, slots=True)
class Chosen:
    """What was asked for: ids of cases, numbers of threads, and peers to leave out."""

    cases: tuple[str, ...]
    threads: tuple[int, ...]
    without: tuple[str, ...]


def main(
    benchmark: Benchmark,
    some: Callable[[Chosen], Benchmark],
    threads: tuple[int, ...],
    arguments: Sequence[str] | None = None,
    removable: Sequence[str] = (),
) -> int:
    """Run the command line and return its exit code.

    some: the benchmark of some cases alone; raises HotbenchError for one that there is not. threads: those that a full
    run takes. removable: peers that --without may leave out.
    """
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--case", action="append", default=[], help="measure this case only (may be repeated)")
    parser.add_argument(
        "--keep", action="store_true", help="put what --case measured in full into the committed result"
    )
    parser.add_argument("--threads", action="append", type=int, default=[], choices=threads, help="of --case")
    if removable:
        parser.add_argument(
            "--without", action="append", default=[], choices=removable, help="peer that --case leaves out"
        )
    own, rest = parser.parse_known_args(arguments)
    if {"-h", "--help"} & set(rest):
        print(parser.format_help())
    try:
        if not own.case:
            return command.main(benchmark, rest)
        chosen = Chosen(tuple(own.case), tuple(own.threads) or threads, tuple(getattr(own, "without", ())))
        return _measured(some(chosen), chosen, rest, own.keep)
    except HotbenchError as error:
        print(f"benchmarks.{benchmark.name}: {error}", file=sys.stderr)
        return 2


def _measured(benchmark: Benchmark, chosen: Chosen, arguments: Sequence[str], kept: bool) -> int:
    """Measure some cases; keep the result if it is wanted and whole."""
    with tempfile.TemporaryDirectory(prefix=f"hotbench-{benchmark.name}-") as folder:
        code = command.main(benchmark, arguments, Path(folder))
        for path in Path(folder).glob("*.json") if kept else ():
            print(f"kept in {keep(benchmark, path, chosen.cases, chosen.threads)}", file=sys.stderr)
    return code
