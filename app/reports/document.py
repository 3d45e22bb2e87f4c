"""A report as plain values: what HTML and Markdown both say. Text in it is raw; each form escapes for itself."""

from __future__ import annotations

from dataclasses import dataclass

MEASURED = "measured"
PREDICTED = "predicted"


@dataclass(frozen=True, slots=True)
class Fact:
    """One figure with its unit. origin is MEASURED, PREDICTED or "" for what is neither, such as a version."""

    label: str
    value: str
    detail: str = ""
    origin: str = ""
    tone: str = ""
    """ "good", "bad", "warn" or "": how it is coloured; never the only sign, the words say it too."""


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text; `numeric` names the columns that are aligned right, `bars` a share (0 to 1) for each row."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: tuple[str, ...] = ()
    bars: tuple[float, ...] = ()
    depths: tuple[int, ...] = ()
    """How far each row is indented where the rows are a tree."""


@dataclass(frozen=True, slots=True)
class Item:
    """One entry of a list with a heading: a finding, a plan. `id` is the finding's, "" for what has none."""

    title: str
    facts: tuple[Fact, ...]
    text: str = ""
    tag: str = ""
    id: str = ""

    @property
    def evidence(self) -> tuple[Fact, ...]:
        """Return the facts that are not predicted."""
        return tuple(fact for fact in self.facts if fact.origin != PREDICTED)


@dataclass(frozen=True, slots=True)
class Section:
    """A heading, what it means in a sentence, and its content. `figures` are keys of the figures beside it."""

    id: str
    title: str
    text: str = ""
    facts: tuple[Fact, ...] = ()
    items: tuple[Item, ...] = ()
    figures: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    notes: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    wide: bool = True
    """False: two such sections may stand side by side."""


@dataclass(frozen=True, slots=True)
class Document:
    """A whole report. `verdict` is the one word of an experiment, "" for a run."""

    kind: str
    id: str
    title: str
    subtitle: str
    created: str
    cards: tuple[Fact, ...]
    sections: tuple[Section, ...]
    terms: tuple[tuple[str, str], ...]
    verdict: str = ""
    reason: str = ""
    tone: str = ""
