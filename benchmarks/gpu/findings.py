"""What the check of a GPU finds: figures, checks, parts; each is plain JSON in the result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PASSED, FAILED, SKIPPED, REFUSED = "passed", "failed", "skipped", "refused"
STATES = (PASSED, FAILED, SKIPPED, REFUSED)
"""refused: the program said in words that it does not do this; that is an answer, not a fault."""


class Skip(Exception):  # noqa: N818
    """Raised by a check that cannot be done here; the message says why, in one line."""


class Refused(Exception):  # noqa: N818
    """Raised by a check whose subject refuses in words; the message is those words."""


class Failed(Exception):  # noqa: N818
    """Raised by a check that found something wrong and has facts to show beside it."""

    def __init__(self, text: str, facts: Mapping[str, Any]) -> None:
        super().__init__(text)
        self.facts = facts


@dataclass(frozen=True, slots=True)
class Spread:
    """A median with its 95 % interval."""

    median: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Bar:
    """What a figure has to reach, on the GPU that the bar was set for.

    quantity: "ratio" (ours ahead of the peer above 1) or "ours" (in the metric's unit).
    """

    quantity: str
    at_least: float | None = None
    at_most: float | None = None
    device: str = "H100"

    def text(self) -> str:
        """Return the bar in words."""
        limit = f"at least {self.at_least:g}" if self.at_least is not None else f"at most {self.at_most:g}"
        return f"{limit} x" if self.quantity == "ratio" else limit


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured comparison; `metric` names the unit of ours and theirs, `ratio` is above 1 where ours is ahead.

    reached: whether the bar is; None without a bar, or on another GPU than the bar's.
    """

    case: str
    peer: str
    metric: str
    ours: Spread
    theirs: Spread | None = None
    ratio: Spread | None = None
    bar: str = ""
    reached: bool | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """What a check that went well found: one line, and more of it as figures and facts."""

    text: str
    figures: tuple[Figure, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Check:
    """One check's end; `text` says in one line what was found, or why it failed, was skipped or was refused."""

    id: str
    state: str
    text: str
    seconds: float = 0.0
    figures: tuple[Figure, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PartResult:
    """A part's end: its checks, and one line for the whole."""

    name: str
    title: str
    state: str
    text: str
    seconds: float = 0.0
    checks: tuple[Check, ...] = ()


def judged(figure: Figure, bar: Bar, device: str) -> Figure:
    """Return the figure with its bar, judged by the median where `device` is the bar's."""
    spread = figure.ratio if bar.quantity == "ratio" else figure.ours
    reached: bool | None = None
    if spread is not None and bar.device in device:
        reached = (bar.at_least is None or spread.median >= bar.at_least) and (
            bar.at_most is None or spread.median <= bar.at_most
        )
    return Figure(
        figure.case, figure.peer, figure.metric, figure.ours, figure.theirs, figure.ratio, bar.text(), reached
    )


def one_line(error: BaseException, most: int = 400) -> str:
    """Return an exception as one line: its type and its text, shortened, paths told from the project's folder on."""
    text = " ".join(str(error).split()).replace(f"{ROOT}/", "")
    line = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return line if len(line) <= most else f"{line[: most - 2]} …"
