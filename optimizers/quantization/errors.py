"""The error of compressing."""

from __future__ import annotations

from analyzer.errors import HotbenchError


class CompressionError(HotbenchError):
    """A rule, a schedule, a gate or inputs that cannot be followed; the message says what to give."""
