"""Which experiments are kept for a run: a mark that can be ended and set again, its history never erased."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sqlalchemy import insert, select, update

from app.store import tables
from app.store.errors import StoreError

if TYPE_CHECKING:
    from app.store.entry import Entry
    from app.store.store import Store

PROVEN = ("faster", "smaller")
"""Verdicts whose candidate may be kept; `optimizers.pipeline.Outcome.kept` says the same."""


@dataclass(frozen=True, slots=True)
class Keep:
    """One mark: `experiment` is kept for `run`. It is in effect until `undone`."""

    id: int
    run: str
    experiment: str
    user: str
    created: str
    undone: str | None = None
    undone_by: str | None = None


def keep(store: Store, run: str, experiment: str, user: str) -> Keep:
    """Return the mark that keeps `experiment` for `run`, as it was when it is in effect already.

    Raises StoreError for an experiment of another run, or one that proved nothing.
    """
    _check(store, run, experiment)
    row = tables.keeps.c
    with store.database.writing() as connection:
        # Looked up under the write lock: two people may click at once.
        standing = (
            connection.execute(
                select(tables.keeps).where(row.run == run, row.experiment == experiment, row.undone.is_(None))
            )
            .mappings()
            .first()
        )
        if standing is not None:
            return Keep(**dict(standing))
        values = {"run": run, "experiment": experiment, "user": user, "created": _now()}
        result = connection.execute(insert(tables.keeps).values(values))
        key = result.inserted_primary_key
        assert key is not None
        return Keep(id=int(key[0]), **values)


def undo(store: Store, run: str, experiment: str, user: str) -> bool:
    """End the mark in effect; return whether there was one. The row stays, with who ended it."""
    row = tables.keeps.c
    with store.database.writing() as connection:
        result = connection.execute(
            update(tables.keeps)
            .where(row.run == run, row.experiment == experiment, row.undone.is_(None))
            .values(undone=_now(), undone_by=user)
        )
        return bool(result.rowcount)


def kept(store: Store, run: str) -> tuple[Keep, ...]:
    """Return the marks in effect for a run, the newest first."""
    return tuple(mark for mark in history(store, run) if mark.undone is None)


def history(store: Store, run: str) -> tuple[Keep, ...]:
    """Return every mark of a run, ended ones included, the newest first."""
    query = select(tables.keeps).where(tables.keeps.c.run == run).order_by(tables.keeps.c.id.desc())
    with store.database.reading() as connection:
        rows = connection.execute(query).mappings().all()
    return tuple(Keep(**dict(row)) for row in rows)


def all_kept(store: Store) -> frozenset[str]:
    """Return the ids of all experiments that are kept for their run: for lists."""
    query = select(tables.keeps.c.experiment).where(tables.keeps.c.undone.is_(None))
    with store.database.reading() as connection:
        return frozenset(connection.execute(query).scalars())


def verdict_of(store: Store, entry: Entry) -> str:
    """Return the verdict of an experiment's entry: from its summary, from its folder where that is silent."""
    verdict = entry.summary.get("verdict")
    if isinstance(verdict, str):
        return verdict
    from analyzer.experiment import load_experiment

    return load_experiment(store.folder(entry)).verdict


def _check(store: Store, run: str, experiment: str) -> None:
    entry = store.find(experiment, ("experiment",))
    parent = store.get(entry.parent) if entry.parent else None
    about = parent.parent if parent is not None and parent.kind == "candidate" else None
    if about != run:
        raise StoreError(f"{experiment} is about {about or 'two runs'}, not about {run}; keep it there")
    verdict = verdict_of(store, entry)
    if verdict not in PROVEN:
        raise StoreError(
            f"{experiment} ended {verdict!r}: only what is proven faster or smaller is kept; try other options"
        )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
