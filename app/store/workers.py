"""The workers that may pull jobs: one row each, its token kept as a hash."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import RowMapping, insert, select, update

from app.store import tables
from app.store.database import Database
from app.store.errors import StoreError

ALIVE_SECONDS = 30.0
"""Without a word for that long a worker counts as gone."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,59}")
_ROW = tables.workers


@dataclass(frozen=True, slots=True)
class Worker:
    """One worker.

    revoked: when its token was; None while it holds.
    seen:    epoch seconds of its last word; None before the first.
    about:   what it said of itself: host, device, devices, load, versions, workloads, session.
    """

    id: str
    name: str
    created: str
    created_by: str
    revoked: str | None = None
    seen: float | None = None
    about: Mapping[str, Any] = field(default_factory=dict)

    def alive(self, now: float | None = None) -> bool:
        """Return whether it may work and was heard of lately."""
        moment = time.time() if now is None else now
        return self.revoked is None and self.seen is not None and moment - self.seen < ALIVE_SECONDS


class Workers:
    """The workers of one database."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock

    def add(self, name: str, user: str) -> tuple[Worker, str]:
        """Return a new worker and its token, which nobody can be told again.

        Raises StoreError for a name that is taken or holds other signs than letters, digits, dots and dashes.
        """
        if not _NAME.fullmatch(name):
            raise StoreError(f"{name!r} is no worker's name; use up to 60 letters, digits, dots, dashes, such as gpu-1")
        token = secrets.token_urlsafe(32)
        worker = Worker(f"worker-{uuid.uuid4().hex[:12]}", name, _now(), user)
        with self._database.writing() as connection:
            if connection.execute(select(_ROW.c.id).where(_ROW.c.name == name)).first() is not None:
                raise StoreError(f"there is a worker {name!r} already; revoke it, or take another name")
            connection.execute(
                insert(_ROW).values(
                    id=worker.id, name=name, token_hash=token_hash(token), created=worker.created,
                    created_by=user, revoked=None, seen=None, about={},
                )
            )  # fmt: skip
        return worker, token

    def list(self) -> tuple[Worker, ...]:
        """Return every worker by name, the revoked ones last."""
        with self._database.reading() as connection:
            rows = connection.execute(select(_ROW).order_by(_ROW.c.revoked.is_not(None), _ROW.c.name)).mappings().all()
        return tuple(_worker(row) for row in rows)

    def get(self, id: str) -> Worker:
        """Return the worker with that id. Raises StoreError if there is none."""
        with self._database.reading() as connection:
            row = connection.execute(select(_ROW).where(_ROW.c.id == id)).mappings().first()
        if row is None:
            raise StoreError(f"no worker {id!r}")
        return _worker(row)

    def of_token(self, token: str) -> Worker | None:
        """Return whose token that is, revoked or not; None if it is nobody's."""
        digest = token_hash(token)
        with self._database.reading() as connection:
            row = connection.execute(select(_ROW).where(_ROW.c.token_hash == digest)).mappings().first()
        if row is None or not hmac.compare_digest(str(row["token_hash"]), digest):
            return None
        return _worker(row)

    def may_work(self, authorization: str) -> bool:
        """Return whether an Authorization header holds the token of a worker that was not revoked."""
        scheme, _, token = authorization.partition(" ")
        worker = self.of_token(token.strip()) if scheme.lower() == "bearer" and token.strip() else None
        return worker is not None and worker.revoked is None

    def revoke(self, name: str) -> Worker:
        """Revoke the token of the worker with that name or id; a repeated one changes nothing.

        The name is free again afterwards. Raises StoreError if there is no such worker.
        """
        found = next((item for item in self.list() if name in (item.name, item.id)), None)
        if found is None:
            known = ", ".join(item.name for item in self.list() if item.revoked is None) or "none"
            raise StoreError(f"no worker {name!r}; there are: {known}")
        if found.revoked is None:
            with self._database.writing() as connection:
                # Only names of workers that may work are unique to people: a machine can be set up anew.
                freed = f"{found.name} ({found.id.removeprefix('worker-')})"
                connection.execute(update(_ROW).where(_ROW.c.id == found.id).values(revoked=_now(), name=freed))
        return self.get(found.id)

    def seen(self, id: str, about: Mapping[str, Any] | None = None) -> None:
        """Note that the worker was heard of now, and what it says of itself if it does."""
        values: dict[str, Any] = {"seen": self._clock()}
        if about is not None:
            values["about"] = dict(about)
        with self._database.writing() as connection:
            connection.execute(update(_ROW).where(_ROW.c.id == id).values(values))


def token_hash(token: str) -> str:
    """Return the SHA-256 of a token. Tokens are 256 random bits: a slow hash would add nothing."""
    return hashlib.sha256(token.encode()).hexdigest()


def _worker(row: RowMapping) -> Worker:
    return Worker(**{name: value for name, value in row.items() if name != "token_hash"})


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
