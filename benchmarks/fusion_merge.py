"""Results of single cases, put into the committed result of benchmarks.fusion: a full run takes hours."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from analyzer.errors import HotbenchError
from analyzer.record import to_plain
from benchmarks.command import RESULTS, device_slug, write_result
from benchmarks.contract import Benchmark

COMMAND = "python -m benchmarks.fusion --keep --case ID, case by case"


def keep(benchmark: Benchmark, measured: Path, cases: Collection[str], results: Path = RESULTS) -> Path:
    """Merge the result file `measured` into the benchmark's, which may not be there yet, and return the latter's path.

    Raises HotbenchError if a file cannot be read, or if the two were measured in different environments.
    """
    after = _read(measured)
    path = results / f"{benchmark.name}-{device_slug(after['environment'])}.json"
    before = _read(path) if path.exists() else {**after, "rows": [], "missing": [], "details": {}}
    return write_result(benchmark, merged(before, after, cases), results)


def merged(before: Mapping[str, Any], after: Mapping[str, Any], cases: Collection[str]) -> dict[str, Any]:
    """Return `after` with what `before` has of other cases. Raises HotbenchError if their environments differ."""
    here, there = to_plain(after["environment"]), before["environment"]
    differing = sorted(name for name in {*here, *there} if here.get(name) != there.get(name))
    if differing:
        raise HotbenchError(
            f"the committed result was measured with another {', '.join(differing)}; remove it and measure every case"
        )

    def others(items: Collection[Mapping[str, Any]], name: str) -> list[Any]:
        return [item for item in items if item[name].split(",")[0] not in cases]

    kept = {key: value for key, value in before.get("details", {}).items() if key.split(",")[0] not in cases}
    return {
        **after,
        "command": COMMAND,
        "rows": [*others(before["rows"], "case"), *after["rows"]],
        "missing": [*others(before["missing"], "why"), *after["missing"]],
        "details": {**kept, **after.get("details", {})},
    }


def _read(path: Path) -> dict[str, Any]:
    try:
        result: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise HotbenchError(f"cannot read {path}: {error}; remove it or mend it") from error
    return result
