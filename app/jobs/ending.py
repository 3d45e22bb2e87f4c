"""How a job ends that could not say so itself: in words, with what it had saved, and nothing half-done left listed."""

from __future__ import annotations

from app.jobs.errors import ClaimLostError
from app.jobs.job import Job, State
from app.jobs.queue import Jobs
from app.store import Entry, Store


def end_in_words(store: Store, jobs: Jobs, job: Job, state: State, error: str) -> None:
    """Write the end of a job that did not; nothing happens when it has one already."""
    saved = clear_up(store, jobs, job)
    words = f"{error}; it had saved {', '.join(f'{entry.kind} {entry.id}' for entry in saved)}" if saved else error
    try:
        jobs.finish(job.id, job.claim or "", state, error=words)
    except ClaimLostError:
        return


def clear_up(store: Store, jobs: Jobs, job: Job) -> tuple[Entry, ...]:
    """Return what the job saved and is of use, oldest first; a candidate that was never measured is removed."""
    noted = {event.text for event in jobs.events(job=job.id, kinds=("value",))}
    saved = [entry for entry in reversed(store.entries()) if entry.id in noted] if noted else []
    # What was there before the job began is not its doing.
    saved = [entry for entry in saved if not _older(entry, job)]
    return tuple(entry for entry in saved if entry.kind != "candidate" or not store.discard(entry))


def _older(entry: Entry, job: Job) -> bool:
    """Return whether the entry was made before the job; times of both are ISO 8601 in UTC."""
    return entry.created[:19] < (job.started or job.created)[:19]
