"""How long applying fusion will take: from the size of the graph, and from what it took before on this machine."""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path

from analyzer.measurement import Estimate
from kernels.compiler.cache import default_folder

FILE = "apply_seconds.json"
SHORT_SECONDS = 1.5
"""What took less says nothing of larger models, and is not remembered."""
MOST = 20
"""So many applications are remembered, the latest."""
COMPARISON_STEPS, MOST_COMPARISON_SECONDS = 100, 2.3
"""So many steps are run to compare the whole program with eager and float64, within that time."""
SECONDS_AN_OP, SECONDS_A_COMPILED_OP = 0.0003, 0.0026
"""Recording an op and lowering it; and what torch.compile takes for an op of a training step."""
BASE_SECONDS = 0.5
KERNEL_SECONDS, CACHED_SECONDS = 1.1, 0.1
"""One kernel through Numba and LLVM, or from the cache, and its timing against the ops that it replaces."""
LOOP_SECONDS = 2.0
"""A loop's kernel, where the program without loops need not be built too."""
_SOURCE = "CPU seconds of an AVX-512 core of a server"


@dataclass(frozen=True, slots=True)
class Size:
    """What there is to build: ops of the step, distinct kernels, loops (0 or 1), and whether there are gradients.

    step_seconds: of the step as it is.
    """

    ops: int
    kernels: int
    loops: int = 0
    training: bool = False
    step_seconds: float = 0.001


def predict_apply(size: Size, history: tuple[float, ...] = ()) -> Estimate:
    """Return the expected seconds of applying. history: measured over predicted, of earlier applications here."""
    compared = min(COMPARISON_STEPS * size.step_seconds, MOST_COMPARISON_SECONDS)
    an_op = SECONDS_A_COMPILED_OP if size.training else SECONDS_AN_OP
    least = BASE_SECONDS + compared + an_op * size.ops + CACHED_SECONDS * (size.kernels + size.loops)
    seconds = least + (KERNEL_SECONDS - CACHED_SECONDS) * size.kernels + LOOP_SECONDS * size.loops
    basis = (
        f"{size.ops:,} ops at {an_op * 1e3} ms, {size.kernels:,} kernels at {KERNEL_SECONDS} s"
        f"{f', a loop at {LOOP_SECONDS:.0f} s' if size.loops else ''} and {compared:.1f} s for the comparison, "
        f"{_SOURCE}; low: all kernels from the cache"
    )
    if not history:
        return Estimate(least, seconds, 3.0 * seconds, "s", basis)
    scale = statistics.median(history)
    low, high = _spread(history)
    times = f"{len(history)} earlier application{'s' if len(history) > 1 else ''}"
    basis += f"; times {scale:.2g}, the median of what {times} on this machine took over its prediction"
    lowest = min(scale * least, low * seconds)
    return Estimate(lowest, scale * seconds, max(1.5 * scale, high) * seconds, "s", basis)


def _spread(history: tuple[float, ...]) -> tuple[float, float]:
    """Return the first and the last decile, or the extremes of a few: one busy moment is no forecast."""
    if len(history) < 5:
        return min(history), max(history)
    deciles = statistics.quantiles(history, n=10)
    return deciles[0], deciles[-1]


def kernel_estimate(history: tuple[float, ...] = ()) -> Estimate:
    """Return the expected seconds of building one kernel; low: it is in the cache already."""
    seconds = KERNEL_SECONDS * (statistics.median(history) if history else 1.0)
    least = CACHED_SECONDS / KERNEL_SECONDS * seconds
    return Estimate(least, seconds, 3.0 * seconds, "s", f"one kernel through Numba and LLVM, {_SOURCE}")


def read_history(folder: Path | None = None) -> tuple[float, ...]:
    """Return measured over predicted seconds of the latest applications on this machine, oldest first."""
    try:
        found = json.loads(((folder or default_folder()) / FILE).read_bytes())
    except (OSError, ValueError):
        return ()
    values = found if isinstance(found, list) else []
    return tuple(float(value) for value in values if isinstance(value, int | float) and 0.0 < value < 1e6)[-MOST:]


def remember(predicted: Estimate | None, seconds: float, folder: Path | None = None) -> None:
    """Keep what an application took, for the next prediction; a folder that cannot be written keeps nothing.

    predicted: what was expected of it, None where nothing was.
    """
    place = folder or default_folder()
    history = read_history(place)
    if predicted is None or not predicted.mid > 0.0 or not seconds > SHORT_SECONDS:
        return
    values = [*history, seconds / predicted.mid * (statistics.median(history) if history else 1.0)][-MOST:]
    with contextlib.suppress(OSError):
        place.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=place, suffix=".partial")
        with os.fdopen(handle, "w") as stream:
            json.dump([round(value, 4) for value in values], stream)
        Path(temporary).replace(place / FILE)
