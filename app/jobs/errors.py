"""What can go wrong with a job, in one line each."""

from __future__ import annotations

from analyzer.errors import HotbenchError


class JobError(HotbenchError):
    """A job that is not there, or that cannot be done."""


class ClaimLostError(JobError):
    """Somebody who no longer holds the job spoke of it: it was ended or given to another. Stop the work."""
