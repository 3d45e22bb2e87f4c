"""The result of a check as gpu-check.json, and the same for people as gpu-check.md."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from analyzer.record import to_plain
from benchmarks.gpu.findings import FAILED, PASSED, Check, Figure, PartResult, Spread

FORMAT_VERSION = 1
JSON_NAME, MARKDOWN_NAME, LOG_NAME = "gpu-check.json", "gpu-check.md", "gpu-check.log"
MOST_LOG_BYTES = 400_000  # of each part's output, its end


@dataclass(frozen=True, slots=True)
class Result:
    """One run of the check. `no_gpu` says why there was nothing to check, "" where there was."""

    command: str
    no_gpu: str
    parts: tuple[PartResult, ...]
    seconds: float = 0.0
    environment: Mapping[str, Any] = field(default_factory=dict)
    created: str = field(default_factory=lambda: time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))

    def figures(self) -> list[tuple[PartResult, Figure]]:
        """Return every figure with its part."""
        return [(part, figure) for part in self.parts for check in part.checks for figure in check.figures]

    def bars(self) -> list[str]:
        """Return a line for each figure that has a bar."""
        return [
            f"{_verdict(figure)}: {part.name}: {figure.case} against {figure.peer or 'the bar'}: "
            f"{_deciding(figure)} (bar: {figure.bar})"
            for part, figure in self.figures()
            if figure.bar
        ]


def environment_of(parts: Sequence[PartResult]) -> dict[str, Any]:
    """Return the facts that the part environment found, flat; {} where it has not ended."""
    found: dict[str, Any] = {}
    for part in parts:
        if part.name == "environment":
            for check in part.checks:
                found.update(check.facts)
    return found


def write_result(result: Result, folder: Path) -> None:
    """Write both files, each whole or not at all."""
    data = {"format_version": FORMAT_VERSION, **to_plain(result)}
    write_whole(folder / JSON_NAME, json.dumps(data, indent=1) + "\n")
    write_whole(folder / MARKDOWN_NAME, markdown(result))


def write_whole(path: Path, text: str) -> None:
    """Write a text file beside its place and move it there."""
    with tempfile.NamedTemporaryFile("w", dir=path.parent, suffix=".partial", delete=False) as stream:
        stream.write(text)
    temporary = Path(stream.name)
    temporary.chmod(0o644)
    temporary.replace(path)


def write_log(work: Path, names: Sequence[str], folder: Path) -> None:
    """Write what the parts' processes printed, the end of each, as one file."""
    texts = []
    for name in names:
        log = work / f"{name}.log"
        if log.exists() and log.stat().st_size:
            texts.append(f"== {name}\n{log.read_bytes()[-MOST_LOG_BYTES:].decode(errors='replace')}\n")
    write_whole(folder / LOG_NAME, "".join(texts))


def markdown(result: Result) -> str:
    """Return the result as a page of tables."""
    lines = ["# GPU check", "", f"`{result.command}`, {result.created}, {result.seconds:.0f} s.", ""]
    if result.no_gpu:
        lines += [f"No GPU: {result.no_gpu}. Every part was skipped.", ""]
    elif result.environment:
        found = result.environment
        names = ("name", "driver", "cuda", "python", "torch", "triton", "numba", "numba-cuda")
        lines += [", ".join(f"{name} {found[name]}" for name in names if found.get(name)) + ".", ""]
    lines += ["| part | state | seconds | |", "|---|---|---|---|"]
    lines += [f"| {p.title} (`{p.name}`) | {p.state} | {p.seconds:.1f} | {_cell(p.text)} |" for p in result.parts]
    if barred := result.bars():
        lines += ["", "## Bars", "", *(f"- {line}" for line in barred)]
    for part in result.parts:
        lines += _section(part)
    return "\n".join([*lines, ""])


def _section(part: PartResult) -> list[str]:
    if not part.checks:
        return []
    lines = ["", f"## {part.title}"]
    figures = [figure for check in part.checks for figure in check.figures]
    if figures:
        lines += ["", "| case | metric | ours | peer | theirs | ratio | bar | |", "|---|---|---|---|---|---|---|---|"]
        lines += [_figure_row(figure) for figure in figures]
    told = [check for check in part.checks if check.state != PASSED or not check.figures]
    # A long list of passed checks says no more than their number.
    if len([check for check in told if check.state == PASSED]) > 12:
        told = [check for check in told if check.state != PASSED]
        lines += ["", f"{sum(check.state == PASSED for check in part.checks)} checks passed."]
    if told:
        lines += ["", "| check | state | |", "|---|---|---|"]
        lines += [f"| {check.id} | {check.state} | {_cell(check.text)} |" for check in told]
    return lines


def _figure_row(figure: Figure) -> str:
    cells = (
        figure.case,
        figure.metric,
        _spread(figure.ours),
        figure.peer,
        _spread(figure.theirs),
        _spread(figure.ratio),
        figure.bar,
        _verdict(figure) if figure.bar else "",
    )
    return f"| {' | '.join(cells)} |"


def _spread(spread: Spread | None) -> str:
    return "" if spread is None else f"{spread.median:.4g} ({spread.low:.4g} to {spread.high:.4g})"


def _deciding(figure: Figure) -> str:
    if figure.ratio is not None and figure.bar.endswith(" x"):
        return f"{figure.ratio.median:.3g} x"
    return f"{figure.ours.median:.4g} {figure.metric}"


def _verdict(figure: Figure) -> str:
    return {True: "reached", False: "not reached", None: "not judged"}[figure.reached]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def failures(parts: Sequence[PartResult]) -> list[tuple[PartResult, Check]]:
    """Return the checks that failed, each with its part."""
    return [(part, check) for part in parts for check in part.checks if check.state == FAILED]
