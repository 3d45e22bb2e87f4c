"""How talking to the server can fail, each in one line."""

from __future__ import annotations

from analyzer.errors import HotbenchError


class UnreachableError(HotbenchError):
    """The server gave no answer, or one that says to come again: worth another try."""


class RefusedError(HotbenchError):
    """The server answered, and said no. `code` is a word of the protocol, "" where it gave none."""

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.code = code

    @property
    def final(self) -> bool:
        """Return whether this worker cannot go on: its token holds no longer, or another process uses it."""
        return self.code in ("token", "session", "address")


class LostJobError(HotbenchError):
    """The job was ended or given to another: its work is of no use any more."""
