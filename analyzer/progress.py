"""How long work tells its caller where it is."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable

Progress = Callable[[str, float], None]
"""Called with what is being done and the fraction (0 to 1) of the whole that is behind."""


def silent(stage: str, fraction: float) -> None:
    """Report nothing."""


def print_json(stage: str, fraction: float) -> None:
    """Print one JSON object a line on stderr, for a parent process to read."""
    print(json.dumps({"stage": stage, "fraction": round(fraction, 4)}), file=sys.stderr, flush=True)


def part(progress: Progress, start: float, stop: float) -> Progress:
    """Return a Progress that fills `progress` from `start` to `stop`."""

    def report(stage: str, fraction: float) -> None:
        progress(stage, start + (stop - start) * min(max(fraction, 0.0), 1.0))

    return report
