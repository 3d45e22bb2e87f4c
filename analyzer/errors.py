"""Errors that a user can mend."""

from __future__ import annotations


class HotbenchError(Exception):
    """A mistake outside our code. Its text is one line: what, which value, what to do.

    Command lines print the text and exit 2; no traceback reaches a user.
    """

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


class WorkloadError(HotbenchError):
    """A workload that cannot be loaded, built or run."""


class RecordError(HotbenchError):
    """A saved value (Run, Plan, Experiment, Artifact) that is missing, corrupt or of another version."""
