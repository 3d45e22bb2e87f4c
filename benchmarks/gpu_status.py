"""docs/gpu-status.md from benchmarks/results/gpu-status.json: how far each CUDA capability has been checked.

python -m benchmarks.gpu_status             print the page
python -m benchmarks.gpu_status --write     rewrite the page

What a GPU showed comes from a result of benchmarks.gpu_check alone (its option --commit).
"""

from __future__ import annotations

import argparse
import fnmatch
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from analyzer.record import to_plain
from benchmarks.gpu.findings import FAILED, PASSED, REFUSED
from benchmarks.gpu.result import JSON_NAME, write_whole

ROOT = Path(__file__).parents[1]
DATA = ROOT / "benchmarks" / "results" / "gpu-status.json"
COMMITTED = ROOT / "benchmarks" / "results" / JSON_NAME
PAGE = ROOT / "docs" / "gpu-status.md"
COMMAND = "python -m benchmarks.gpu_status --write"
FORMAT_VERSION = 2

# Tier: what a capability that reached it has passed.
TIERS = {
    "twin": "the kernel's arithmetic, run by the CPU from the same text or its twin, matches a float64 reference",
    "simulator": "the simulated kernel matches it, stays within its buffers and does not depend on thread order",
    "compiled": "compiled for sm_80 and sm_90: no spills, no unwanted float64, the 128-bit accesses are there",
    "device": "every check that the row names passed on a GPU",
}
NOT_SEEN = "not yet seen on a GPU"
VERSIONS = ("driver", "cuda", "torch", "numba-cuda")

INTRODUCTION = """\
# GPU status

How far each CUDA capability has been checked. Simulated and compiled are not measured: they say nothing about speed.
A capability counts as working on a GPU only where its row names one.

`make gpu-check` does everything that needs a GPU, in under nine minutes: each kernel against float64 and against torch,
capture of the examples, the pipeline, and tables of times and bandwidths with the bar beside each figure. On a machine
without a GPU it says so. `python -m benchmarks.gpu_check --commit` also puts what it found into this table.
"""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a GPU showed of one capability. versions: "driver 580.1, torch 2.11.0"; result: one line."""

    gpu: str
    versions: str
    date: str
    command: str
    passed: bool
    result: str


@dataclass(frozen=True, slots=True)
class Row:
    """One capability.

    cases:  name patterns of the test cases in tests/cuda that check it.
    tiers:  those that every one of these cases goes through without a GPU, keys of TIERS.
    checks: patterns of "part/check" in a result of benchmarks.gpu_check, or "part/check::test", beside those of the
            cases.
    seen:   what a GPU showed; None until then.
    """

    capability: str
    cases: tuple[str, ...]
    tiers: tuple[str, ...]
    checks: tuple[str, ...]
    seen: Seen | None
    note: str

    def patterns(self) -> tuple[str, ...]:
        """Return the patterns of all its checks on a GPU."""
        return (*(f"kernels-*/{case}/*" for case in self.cases), *self.checks)

    def all_tiers(self) -> tuple[str, ...]:
        """Return the tiers passed, the device's among them where every check passed there."""
        return (*self.tiers, "device") if self.seen is not None and self.seen.passed else self.tiers


def read_rows(path: Path = DATA) -> tuple[Row, ...]:
    """Return the table's rows.

    Raises ValueError for a tier that is unknown or that only a GPU gives.
    """
    rows = []
    for item in json.loads(path.read_text())["rows"]:
        seen = Seen(**item["seen"]) if item["seen"] else None
        row = Row(
            item["capability"], tuple(item["cases"]), tuple(item["tiers"]), tuple(item["checks"]), seen, item["note"]
        )
        known = [tier for tier in TIERS if tier != "device"]
        if unknown := set(row.tiers) - set(known):
            raise ValueError(f"{row.capability}: {unknown.pop()} is no tier to write down; use {', '.join(known)}")
        rows.append(row)
    return tuple(rows)


def write_rows(rows: Sequence[Row], path: Path = DATA) -> None:
    """Write the table's rows, a line a field."""
    lines = []
    for row in to_plain(rows):
        fields = ",\n".join(f"      {json.dumps(name)}: {json.dumps(value)}" for name, value in row.items())
        lines.append(f"    {{\n{fields}\n    }}")
    body = ",\n".join(lines)
    write_whole(path, f'{{\n  "format_version": {FORMAT_VERSION},\n  "rows": [\n{body}\n  ]\n}}\n')


def with_result(rows: Sequence[Row], result: Mapping[str, Any]) -> tuple[Row, ...]:
    """Return the rows with what a result of benchmarks.gpu_check shows of each, None where nothing of it ran."""
    checks = dict(_states(result))
    return tuple(replace(row, seen=_seen(row, checks, result)) for row in rows)


def _states(result: Mapping[str, Any]) -> Iterator[tuple[str, tuple[str, Mapping[str, Any]]]]:
    """Yield each check's id with its state and its JSON; and each single test that a check ran."""
    for part in result["parts"]:
        for check in part["checks"]:
            yield f"{part['name']}/{check['id']}", (check["state"], check)
            for test, state in check["facts"].get("tests", {}).items():
                yield f"{part['name']}/{check['id']}::{test}", (state, {"text": f"{test} failed", "figures": []})


def _seen(row: Row, checks: Mapping[str, tuple[str, Mapping[str, Any]]], result: Mapping[str, Any]) -> Seen | None:
    mine = {name for pattern in row.patterns() for name in fnmatch.filter(checks, pattern)}
    ran = [checks[name] for name in sorted(mine) if checks[name][0] in (PASSED, FAILED, REFUSED)]
    if not ran:
        return None
    found = result["environment"]
    passed = sum(state == PASSED for state, _ in ran)
    text = f"{passed} of {len(ran)} checks passed"
    if passed < len(ran):
        state, check = next((state, check) for state, check in ran if state != PASSED)
        text += f"; {state}: {check['text']}"
    judged = [figure for _, check in ran for figure in check["figures"] if figure["reached"] is not None]
    if judged:
        text += f"; {sum(figure['reached'] for figure in judged)} of {len(judged)} bars reached"
    versions = ", ".join(f"{name} {found[name]}" for name in VERSIONS if found.get(name))
    return Seen(found["name"], versions, result["created"][:10], result["command"], passed == len(ran), text)


def page(rows: Sequence[Row]) -> str:
    """Return the page's text."""
    lines = [INTRODUCTION, "| tier | passed when |", "|---|---|"]
    lines += [f"| {tier} | {meaning} |" for tier, meaning in TIERS.items()]
    lines += ["", "| capability | tiers passed | on a GPU | note |", "|---|---|---|---|"]
    for row in rows:
        tiers = ", ".join(row.all_tiers()) or "none"
        lines.append(f"| {row.capability} | {tiers} | {_told(row.seen)} | {row.note} |")
    return "\n".join([*lines, "", f"Written by `{COMMAND}` from benchmarks/results/gpu-status.json.", ""])


def _told(seen: Seen | None) -> str:
    if seen is None:
        return NOT_SEEN
    return f"{seen.gpu} ({seen.versions}), {seen.date}, `{seen.command}`: {seen.result}".replace("|", "\\|")


def commit_result(folder: Path, root: Path = ROOT) -> str:
    """Return one line after copying the result in `folder` to where results are committed and rewriting the page.

    Raises ValueError for a result that knows no GPU's name.
    """
    text = (folder / JSON_NAME).read_text()
    result = json.loads(text)
    if not result["environment"].get("name"):
        raise ValueError("the result names no GPU: its part environment failed or did not run; nothing was committed")
    data, committed, shown = (root / path.relative_to(ROOT) for path in (DATA, COMMITTED, PAGE))
    rows = with_result(read_rows(data), result)
    write_whole(committed, text)
    write_rows(rows, data)
    write_whole(shown, page(rows))
    return f"rewritten: {', '.join(str(path.relative_to(root)) for path in (committed, data, shown))}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Return 0 after printing or writing the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu_status", description="The table of GPU checks.")
    parser.add_argument("--write", action="store_true", help="rewrite docs/gpu-status.md")
    text = page(read_rows())
    if parser.parse_args(arguments).write:
        PAGE.parent.mkdir(parents=True, exist_ok=True)
        PAGE.write_text(text)
    else:
        print(text, end="")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
