"""The tables as this version of Hotbench writes them; migrations/ brings an older database to this form."""

from __future__ import annotations

from sqlalchemy import JSON, Boolean, Column, Float, ForeignKey, Index, Integer, MetaData, String, Table, Text

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

jobs = Table(
    "jobs",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("kind", String(32), nullable=False),
    Column("title", String(400), nullable=False),
    Column("arguments", JSON, nullable=False),
    Column("needs", JSON, nullable=False),
    Column("about", String(80), nullable=True),
    Column("state", String(16), nullable=False),
    Column("user", String(80), nullable=False),
    Column("place", String(80), nullable=True),
    Column("claim", String(40), nullable=True),
    Column("process", JSON, nullable=True),
    Column("created", String(40), nullable=False),
    Column("started", String(40), nullable=True),
    Column("ended", String(40), nullable=True),
    Column("heartbeat", Float, nullable=True),
    Column("cancel", Boolean, nullable=False),
    Column("stage", String(200), nullable=False),
    Column("fraction", Float, nullable=False),
    Column("result", JSON, nullable=True),
    Column("error", Text, nullable=False),
    Index("jobs_by_state", "state", "created"),
    Index("jobs_by_about", "about", "created"),
)

job_events = Table(
    "job_events",
    metadata,
    # One sequence over all jobs: what a browser gives back as Last-Event-ID.
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("job", String(40), ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("created", String(40), nullable=False),
    Column("fraction", Float, nullable=True),
    Column("text", Text, nullable=False),
    Index("job_events_by_job", "job", "id"),
    sqlite_autoincrement=True,
)

workers = Table(
    "workers",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("name", String(80), nullable=False, unique=True),
    Column("token_hash", String(128), nullable=False, unique=True),
    Column("created", String(40), nullable=False),
    Column("created_by", String(80), nullable=False),
    Column("revoked", String(40), nullable=True),
    Column("seen", Float, nullable=True),
    Column("about", JSON, nullable=False),
)

users = Table(
    "users",
    metadata,
    Column("name", String(80), primary_key=True),
    Column("password_hash", String(255), nullable=False),
    Column("role", String(16), nullable=False),
    Column("created", String(40), nullable=False),
    # Changes with password and role: an older login is over then.
    Column("session", String(40), nullable=False),
)

keeps = Table(
    "keeps",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("run", String(80), ForeignKey("entries.id", ondelete="CASCADE"), nullable=False),
    Column("experiment", String(80), ForeignKey("entries.id", ondelete="CASCADE"), nullable=False),
    Column("user", String(80), nullable=False),
    Column("created", String(40), nullable=False),
    Column("undone", String(40), nullable=True),
    Column("undone_by", String(80), nullable=True),
    Index("keeps_by_run", "run"),
)

comments = Table(
    "comments",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("report", String(80), ForeignKey("entries.id", ondelete="CASCADE"), nullable=False),
    Column("anchor", String(200), nullable=False),
    Column("author", String(80), nullable=False),
    Column("created", String(40), nullable=False),
    Column("text", Text, nullable=False),
    Index("comments_by_report", "report", "id"),
)

reviews = Table(
    "reviews",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("report", String(80), ForeignKey("entries.id", ondelete="CASCADE"), nullable=False),
    Column("author", String(80), nullable=False),
    Column("created", String(40), nullable=False),
    Column("decision", String(16), nullable=False),
    Column("artifact_digest", String(64), nullable=False),
    Column("text", Text, nullable=False),
    Index("reviews_by_report", "report", "id"),
)
