"""The command line of every benchmark: its options, the table for people, the committed result."""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from analyzer.errors import HotbenchError
from analyzer.record import to_plain
from benchmarks.contract import Benchmark, Settings, missing_promises, result_of

RESULTS = Path(__file__).parent / "results"


def main(benchmark: Benchmark, arguments: Sequence[str] | None = None, results: Path = RESULTS) -> int:
    """Run the benchmark's command line and return its exit code: 0, 1 when a promised row is absent, 2 on bad input.

    A full run also writes its result to `results`/NAME-DEVICE.json.
    """
    options = _parser(benchmark).parse_args(arguments)
    if options.list:
        print(_listing(benchmark, options.json))
        return 0
    try:
        outcome = benchmark.measure(Settings(options.quick, _on_stderr))
        result = result_of(benchmark, outcome, options.quick)
        text = json.dumps(result, indent=1) if options.json else table(result)
        print(text, flush=True)
        if not options.quick:
            print(f"written to {write_result(benchmark, result, results)}", file=sys.stderr)
    except HotbenchError as error:
        print(f"benchmarks.{benchmark.name}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"benchmarks.{benchmark.name}: cancelled", file=sys.stderr)
        return 130
    absent = [] if options.quick else missing_promises(benchmark, outcome)
    for promise in absent:
        print(f"no row for {promise.case} against {promise.peer} ({promise.metric})", file=sys.stderr)
    return 1 if absent else 0


def _parser(benchmark: Benchmark) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{benchmark.name}")
    parser.add_argument("--quick", action="store_true", help="end within 60 s on 2 cores, leaving out what cannot")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    parser.add_argument("--list", action="store_true", help="print the ids of the rows that a full run gives")
    return parser


def _on_stderr(stage: str, fraction: float) -> None:
    end = "\n" if fraction >= 1 or not sys.stderr.isatty() else ""
    print(
        f"\r{fraction:6.1%}  {stage:<60.60}" if sys.stderr.isatty() else f"{fraction:6.1%}  {stage}",
        end=end,
        file=sys.stderr,
        flush=True,
    )


def table(result: Mapping[str, Any]) -> str:
    """Return the result as plain text for people: a line a row, then who is missing."""
    header = ("case", "threads", "peer", "metric", "ours", "theirs", "ratio", "95 %")
    lines = [header, *(_cells(row) for row in result["rows"])]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    text += [f"missing: {peer['peer']}: {peer['why']}" for peer in result["missing"]]
    found = result["environment"]
    return "\n".join([*text, f"on {found['cpu']}, {found['cores']} cores, torch {found['torch']}"])


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    ratio = row["ratio"]
    return (
        row["case"],
        str(row["threads"]),
        row["peer"],
        row["metric"],
        f"{row['ours']:.4g}",
        f"{row['theirs']:.4g}",
        f"{ratio['median']:.3f}",
        f"{ratio['low']:.3f} to {ratio['high']:.3f}",
    )


def _listing(benchmark: Benchmark, as_json: bool) -> str:
    if as_json:
        return json.dumps([to_plain(promise) for promise in benchmark.promises], indent=1)
    return "\n".join(f"{promise.case}  {promise.peer}  {promise.metric}" for promise in benchmark.promises)


def write_result(benchmark: Benchmark, result: Mapping[str, Any], folder: Path = RESULTS) -> Path:
    """Write the result to `folder`/NAME-DEVICE.json, whole or not at all, and return the path."""
    path = folder / f"{benchmark.name}-{device_slug(result['environment'])}.json"
    temporary = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=folder, suffix=".partial", delete=False) as stream:
            temporary = Path(stream.name)
            stream.write(json.dumps(result, indent=1) + "\n")
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        raise HotbenchError(f"cannot write {path}: {error.strerror or error}; free space or mend the folder") from error
    return path


def device_slug(found: Mapping[str, Any]) -> str:
    """Return the device of an environment as part of a file's name, such as "amd-epyc-2-cores"."""
    return re.sub(r"[^a-z0-9]+", "-", f"{found['cpu']} {found['cores']} cores".lower()).strip("-")
