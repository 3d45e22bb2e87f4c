"""What the store says of one saved value without opening its folder."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of the store.

    kind:    "run", "candidate", "experiment", "artifact" or "reproducer": also the kind in the folder's manifest.
    parent:  id of the entry that it was made from; None at the start of a chain.
    created: UTC, ISO 8601.
    digest:  SHA-256 of the folder's manifest, and so of every file in it.
    summary: plain JSON for lists: what a reader wants to know before opening it.
    """

    id: str
    kind: str
    parent: str | None
    name: str
    created: str
    digest: str
    summary: dict[str, Any] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
