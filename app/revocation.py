"""A worker's way out: its token holds no longer, and what it did or was to do ends in words at once."""

from __future__ import annotations

from app.jobs.ending import end_in_words
from app.jobs.queue import Jobs
from app.store import Store
from app.store.workers import Worker, Workers

_MOST_JOBS = 1000


def revoke_worker(store: Store, jobs: Jobs, name: str) -> Worker:
    """Revoke the worker with that name or id and end its jobs. Raises StoreError if there is no such worker."""
    worker = Workers(store.database).revoke(name)
    for job in jobs.list(live=True, limit=_MOST_JOBS):
        if job.state == "queued" and job.needs.get("place") == worker.id:
            # Nobody else may do it: it would wait for ever.
            jobs.cancel(job.id, "the revocation of its worker")
        elif job.place == worker.id:
            end_in_words(store, jobs, job, "failed", "its worker's token was revoked while this ran; start it again")
    return worker
