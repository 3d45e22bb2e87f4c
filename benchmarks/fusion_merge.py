"""Results of single cases, put into a benchmark's committed result: a full run takes hours."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from analyzer.errors import HotbenchError
from analyzer.record import to_plain
from benchmarks.command import RESULTS, device_slug, write_result
from benchmarks.contract import Benchmark


def keep(
    benchmark: Benchmark, measured: Path, cases: Collection[str], threads: Collection[int] = (), results: Path = RESULTS
) -> Path:
    """Merge the result file `measured` into the benchmark's, which may not be there yet, and return the latter's path.

    What the latter has of the cases on so many threads (empty: on any) is replaced, everything else stays. Raises
    HotbenchError if a file cannot be read, or if the two were measured in different environments.
    """
    after = _read(measured)
    path = results / f"{benchmark.name}-{device_slug(after['environment'])}.json"
    before = _read(path) if path.exists() else {**after, "rows": [], "missing": [], "details": {}}
    return write_result(benchmark, merged(before, after, cases, threads), results)


def merged(
    before: Mapping[str, Any], after: Mapping[str, Any], cases: Collection[str], threads: Collection[int]
) -> dict[str, Any]:
    """Return `after` with what `before` has beside the cases on so many threads (empty: on any).

    Raises HotbenchError if their environments differ.
    """
    here, there = to_plain(after["environment"]), before["environment"]
    differing = sorted(name for name in {*here, *there} if here.get(name) != there.get(name))
    if differing:
        raise HotbenchError(
            f"the committed result was measured with another {', '.join(differing)}; remove it and measure every case"
        )
    replaced = {f"{case}, {count} threads" for case in cases for count in threads} or set(cases)
    rows = [row for row in before["rows"] if not {row["case"], f"{row['case']}, {row['threads']} threads"} & replaced]
    missing = [item for item in before["missing"] if item["why"].split(":")[0] not in replaced]
    kept = {key: value for key, value in before.get("details", {}).items() if key not in replaced}
    return {
        **after,
        "command": f"python -m benchmarks.{after.get('benchmark', 'fusion')} --keep --case ID, case by case",
        "rows": [*rows, *after["rows"]],
        "missing": [*missing, *(item for item in after["missing"] if item not in missing)],
        "details": {**kept, **after.get("details", {})},
    }


def _read(path: Path) -> dict[str, Any]:
    try:
        result: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise HotbenchError(f"cannot read {path}: {error}; remove it or mend it") from error
    return result
