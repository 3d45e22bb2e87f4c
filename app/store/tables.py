"""The tables as this version of Hotbench writes them; migrations/ brings an older database to this form."""

from __future__ import annotations

from sqlalchemy import JSON, Column, ForeignKey, Index, MetaData, String, Table

metadata = MetaData()

settings = Table(
    "settings",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("value", String(255), nullable=False),
)

entries = Table(
    "entries",
    metadata,
    Column("id", String(80), primary_key=True),
    Column("kind", String(32), nullable=False),
    Column("parent", String(80), ForeignKey("entries.id"), nullable=True),
    Column("name", String(400), nullable=False),
    Column("created", String(40), nullable=False),
    Column("digest", String(64), nullable=False),
    Column("summary", JSON, nullable=False),
    Index("entries_by_kind", "kind", "created"),
)

tags = Table(
    "tags",
    metadata,
    Column("entry", String(80), ForeignKey("entries.id", ondelete="CASCADE"), primary_key=True),
    Column("tag", String(80), primary_key=True),
)
