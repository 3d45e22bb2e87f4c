"""The error of everything about placement."""

from __future__ import annotations

from analyzer.errors import HotbenchError


class PlacementError(HotbenchError, ValueError):
    """A run, cluster, plan or peer that does not do; one line that says what, which value, what to do."""
