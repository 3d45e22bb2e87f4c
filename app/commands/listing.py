"""`hotbench list`: what the store holds, the newest first."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from app.commands.profile import _count
from app.terminal import Terminal

if TYPE_CHECKING:
    from rich.console import RenderableType

    from app.store import Entry, Store

NAME = "list"
HELP = "list runs, experiments, artifacts and reports, the newest first"
_KINDS = ("runs", "experiments", "artifacts", "reports")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add what to list."""
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"{', '.join(_KINDS)} (default: all of them)")
    parser.add_argument("--tag", metavar="TAG", help="only runs that have this tag")
    parser.add_argument("--limit", type=_count, metavar="N", help="at most so many of a kind (default: all)")


def run(options: argparse.Namespace) -> int:
    """Print the entries of each kind."""
    from analyzer.errors import HotbenchError
    from app.store import open_store

    for kind in options.kinds:
        if kind not in _KINDS:
            raise HotbenchError(f"no kind {kind[:40]!r} to list; choose {', '.join(_KINDS)}")
    if options.tag is not None and options.kinds not in ([], ["runs"]):
        raise HotbenchError("--tag is about runs; write `hotbench list runs --tag TAG`")
    kinds = ("runs",) if options.tag is not None else tuple(kind for kind in _KINDS if kind in options.kinds) or _KINDS
    terminal = Terminal(options.json)
    with open_store(options.store) as store:
        found = {kind: _ROWS[kind](store)[: options.limit] for kind in kinds if kind != "runs"}
        if "runs" in kinds:
            runs = [row for row in _runs(store) if options.tag is None or options.tag in row["tags"]]
            found = {"runs": runs[: options.limit], **found}
    terminal.result(found, *(_table(kind, rows) for kind, rows in found.items()))
    return 0


def _runs(store: Store) -> list[dict[str, Any]]:
    from app.workloads import place_name

    return [
        {**_plain(entry), **entry.summary, "tags": list(entry.tags), "place": place_name(entry)}
        for entry in store.entries("run")
    ]


def _experiments(store: Store) -> list[dict[str, Any]]:
    from app.store.keeps import all_kept, verdict_of

    kept = all_kept(store)
    parents = {entry.id: entry for entry in store.entries("candidate")}
    rows = []
    for entry in store.entries("experiment"):
        candidate = parents.get(entry.parent or "")
        rows.append(
            {
                **_plain(entry),
                "run": candidate.parent if candidate is not None else None,
                "optimizers": list(candidate.summary.get("optimizers", ())) if candidate is not None else [],
                "verdict": verdict_of(store, entry),
                "speedup": entry.summary.get("speedup"),
                "kept": entry.id in kept,
            }
        )
    return rows


def _artifacts(store: Store) -> list[dict[str, Any]]:
    return [{**_plain(entry), "sha256": entry.digest, **entry.summary} for entry in store.entries("artifact")]


def _reports(store: Store) -> list[dict[str, Any]]:
    from app.store.reviews import all_reviews
    from app.views.report import report_rows

    standing = {row.id: row.standing for row in report_rows(store.entries(), all_reviews(store))}
    return [
        {**_plain(entry), "standing": standing[entry.id], **entry.summary} for entry in store.entries("report")
    ]  # fmt: skip


_ROWS = {"experiments": _experiments, "artifacts": _artifacts, "reports": _reports}


def _plain(entry: Entry) -> dict[str, Any]:
    return {"id": entry.id, "name": entry.name, "parent": entry.parent, "created": entry.created}


def _table(kind: str, rows: Sequence[Mapping[str, Any]]) -> RenderableType:
    from rich.box import SIMPLE_HEAD
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from app.units import moment, printable

    heading = Text(kind.capitalize(), style="bold")
    if not rows:
        return Group(heading, Text("none yet", style="dim"), "")
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    columns = _COLUMNS[kind]
    table.add_column("id", no_wrap=True)
    for name in ("name", *columns):
        table.add_column(name)
    table.add_column("created (UTC)", no_wrap=True)
    for row in rows:
        words = [printable(columns[name](row)) for name in columns]
        created = moment(row["created"]).removesuffix(" UTC")
        table.add_row(row["id"], printable(str(row.get("title") or row["name"])), *words, created)
    return Group(heading, table)


def _step(row: Mapping[str, Any]) -> str:
    from app.units import milliseconds

    return milliseconds(row.get("step_seconds"))


def _verdict(row: Mapping[str, Any]) -> str:
    from app.units import ratio

    words = f"{row['verdict']} {ratio(row['speedup'])}" if row.get("speedup") is not None else str(row["verdict"])
    return f"{words}, kept" if row["kept"] else words


_COLUMNS: dict[str, dict[str, Any]] = {
    "runs": {"step time": _step, "tags": lambda row: ", ".join(row["tags"]), "where": lambda row: row["place"]},
    "experiments": {"optimizers": lambda row: ", ".join(row["optimizers"]) or "–", "verdict": _verdict},
    "artifacts": {"of": lambda row: str(row["parent"]), "sha256": lambda row: row["sha256"][:12]},
    "reports": {"of": lambda row: str(row["parent"]), "review": lambda row: row["standing"]},
}
