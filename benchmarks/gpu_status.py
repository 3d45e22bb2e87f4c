"""docs/gpu-status.md from benchmarks/results/gpu-status.json: how far each CUDA capability has been checked.

python -m benchmarks.gpu_status             print the page
python -m benchmarks.gpu_status --write     rewrite the page
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
DATA = ROOT / "benchmarks" / "results" / "gpu-status.json"
PAGE = ROOT / "docs" / "gpu-status.md"
COMMAND = "python -m benchmarks.gpu_status --write"

# Tier: what a capability that reached it has passed.
TIERS = {
    "twin": "the kernel's own text, run by the CPU, matches a float64 reference",
    "simulator": "the simulated kernel matches it, stays within its buffers and does not depend on thread order",
    "compiled": "compiled for sm_80 and sm_90: no spills, no unwanted float64, the 128-bit accesses are there",
    "device": "the same, and torch's results, on a GPU",
}
NOT_SEEN = "not yet seen on a GPU"

INTRODUCTION = """\
# GPU status

How far each CUDA capability has been checked. Simulated and compiled are not measured: they say nothing about speed.
A capability counts as working on a GPU only where its row names a device.
"""


@dataclass(frozen=True, slots=True)
class Row:
    """One capability.

    cases:  name patterns of the test cases in tests/cuda that check it; empty where only a device can.
    tiers:  those reached, keys of TIERS.
    device: the GPU it passed on, with date and command; None until then.
    """

    capability: str
    cases: tuple[str, ...]
    tiers: tuple[str, ...]
    device: str | None
    note: str


def read_rows(path: Path = DATA) -> tuple[Row, ...]:
    """Return the table's rows.

    Raises ValueError for an unknown tier, or for a device tier without a device (and the reverse).
    """
    rows = []
    for item in json.loads(path.read_text())["rows"]:
        row = Row(item["capability"], tuple(item["cases"]), tuple(item["tiers"]), item["device"], item["note"])
        if unknown := set(row.tiers) - set(TIERS):
            raise ValueError(f"{row.capability}: unknown tier {unknown.pop()}; use one of {', '.join(TIERS)}")
        if ("device" in row.tiers) != (row.device is not None):
            raise ValueError(f"{row.capability}: the tier device and the name of a device go together; give both")
        rows.append(row)
    return tuple(rows)


def page(rows: Sequence[Row]) -> str:
    """Return the page's text."""
    lines = [INTRODUCTION, "| tier | passed when |", "|---|---|"]
    lines += [f"| {tier} | {meaning} |" for tier, meaning in TIERS.items()]
    lines += ["", "| capability | tiers passed | on a GPU | note |", "|---|---|---|---|"]
    for row in rows:
        tiers = ", ".join(row.tiers) or "none"
        lines.append(f"| {row.capability} | {tiers} | {row.device or NOT_SEEN} | {row.note} |")
    return "\n".join([*lines, "", f"Written by `{COMMAND}` from benchmarks/results/gpu-status.json.", ""])


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
