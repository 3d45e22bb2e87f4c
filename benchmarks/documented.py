"""The tables of committed results in docs/benchmarks.md: `python -m benchmarks.documented` writes them anew.

A table stands between `<!-- table: NAME METRIC -->` and `<!-- /table -->`; the rest of the page is left as it is.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from analyzer.errors import HotbenchError
from benchmarks.command import RESULTS

PAGE = Path(__file__).parent.parent / "docs" / "benchmarks.md"
_TABLE = re.compile(r"(<!-- table: ([\w-]+) ([\w-]+) -->\n).*?(<!-- /table -->)", re.DOTALL)
_UNITS = {
    "latency": (1e3, "ms"),
    "step_seconds": (1e3, "ms"),
    "seconds_to_loss": (1.0, "s"),
    "compile_seconds": (1.0, "s"),
    "size_bytes": (1e-6, "MB"),
    "peak_over_base_bytes": (1e-6, "MB"),
    "plan_seconds": (1e3, "ms"),
    "peak_over_budget": (100.0, "%"),
    "peak_error": (100.0, "%"),
    "step_error": (100.0, "%"),
}
"""What a metric is multiplied by, and the unit that makes of it."""
_VALUES = ("agreement", "cosine", "size_bytes")
"""Metrics whose columns hold the peers' own values: ratios of them say little."""


def documented(text: str, results: Path = RESULTS) -> str:
    """Return the page's text with every table made from the committed result.

    Raises HotbenchError if a table's result is not there or holds no row of its metric.
    """
    return _TABLE.sub(lambda found: f"{found[1]}{_section(found[2], found[3], results)}{found[4]}", text)


def _section(name: str, metric: str, results: Path) -> str:
    paths = sorted(results.glob(f"{name}-*.json"))
    if not paths:
        raise HotbenchError(f"there is no committed result of benchmarks.{name}; measure it, or remove its table")
    return "\n".join(_of_device(json.loads(path.read_text()), metric) for path in paths)


def _of_device(result: Mapping[str, Any], metric: str) -> str:
    rows = [row for row in result["rows"] if row["metric"] == metric]
    if not rows:
        raise HotbenchError(f"no row of the committed result of benchmarks.{result['benchmark']} is of {metric!r}")
    found = result["environment"]
    head = f"{found['cpu']}, {found['cores']} cores, torch {found['torch']}; `{result['command']}`\n"
    return "\n".join([head, *_table(rows, metric), ""])


def _table(rows: Sequence[Mapping[str, Any]], metric: str) -> list[str]:
    peers = list(dict.fromkeys(row["peer"] for row in rows))
    factor, unit = _UNITS.get(metric, (1.0, ""))
    by_key: dict[tuple[str, int], dict[str, Mapping[str, Any]]] = {}
    for row in rows:
        by_key.setdefault((row["case"], row["threads"]), {})[row["peer"]] = row
    lines = [["case", "threads", f"ours, {unit}" if unit else "ours", *peers], ["---"] * (3 + len(peers))]
    for (case, threads), found in by_key.items():
        ours = _number(next(iter(found.values()))["ours"] * factor)
        lines.append([case, str(threads), ours, *(_cell(found.get(peer), metric, factor) for peer in peers)])
    return [f"| {' | '.join(line)} |" for line in lines]


def _cell(row: Mapping[str, Any] | None, metric: str, factor: float) -> str:
    if row is None:
        return "–"
    if metric in _VALUES:
        return _number(row["theirs"] * factor)
    return "{median:.2f} ({low:.2f} to {high:.2f})".format(**row["ratio"])


def _number(value: float) -> str:
    return f"{value:.4g}"


def main() -> int:
    """Write the page's tables and return the exit code."""
    try:
        PAGE.write_text(documented(PAGE.read_text()))
    except HotbenchError as error:
        print(f"benchmarks.documented: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
