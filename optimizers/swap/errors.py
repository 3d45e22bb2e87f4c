"""The error of everything about swap."""

from __future__ import annotations

from analyzer.errors import HotbenchError


class SwapError(HotbenchError, ValueError):
    """A step, plan or place to swap to that does not do; one line that says what, which value, what to do."""
