"""translation-shm: seconds of training until the example's translation model has learned enough, by backend."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

from analyzer.errors import HotbenchError
from analyzer.progress import Progress, part
from analyzer.record import to_plain
from analyzer.statistics import paired_ratio
from benchmarks.contract import Promise, Ratio, Row
from benchmarks.placement_findings import TO_LOSS, Effort, Findings
from examples.translation import TARGET_LOSS, launch_of
from optimizers.placement.backends import BASELINES, OURS
from optimizers.placement.convergence import WINDOW, Descent
from optimizers.placement.launch import Ranks

CASE = "translation-shm"


def promises() -> tuple[Promise, ...]:
    """Return the rows of a full run."""
    return tuple(Promise(CASE, peer, TO_LOSS) for peer in BASELINES)


def measure(peers: Sequence[str], effort: Effort, found: Findings, progress: Progress) -> None:
    """Add the rows: all backends train at once, in turns of a few steps, each until its own loss is low enough."""
    with ExitStack() as stack:
        descents: dict[str, Descent] = {}
        for place, name in enumerate((OURS, *peers)):
            progress(f"{CASE}: starting {name}", 0.2 * place / (len(peers) + 1))
            try:
                descents[name] = Descent(stack.enter_context(Ranks(launch_of(name))), TARGET_LOSS)
            except HotbenchError as error:
                found.add_missing(name, f"{CASE}: {error}")
        turns = _train(descents, effort.most_steps, part(progress, 0.2, 1.0))
    for name, descent in descents.items():
        curve = descent.found()
        found.details.setdefault(CASE, {})[name] = {**to_plain(curve), "reached_seconds": curve.reached_seconds}
        if name == OURS or OURS not in descents:
            continue
        ours, theirs = descents[OURS].found().reached_seconds, curve.reached_seconds
        if ours is None or theirs is None:
            found.add_missing(name, f"{CASE}: loss {TARGET_LOSS:g} was not reached in {effort.most_steps} steps")
            continue
        shared = min(len(turns[OURS]), len(turns[name]))
        ratio = paired_ratio(turns[name][:shared], turns[OURS][:shared])
        scale = theirs / ours / ratio.median
        # The interval is that of the turns' ratios, about the ratio of the whole trainings.
        found.rows.append(
            Row(CASE, 1, name, TO_LOSS, ours, theirs, Ratio(theirs / ours, ratio.low * scale, ratio.high * scale))
        )


def _train(descents: dict[str, Descent], most_steps: int, progress: Progress) -> dict[str, list[float]]:
    """Train all to the end; return the seconds of each one's turns."""
    turns: dict[str, list[float]] = {name: [] for name in descents}
    for first in range(0, most_steps, WINDOW):
        going = [name for name, descent in descents.items() if not descent.is_over]
        if not going:
            break
        shift = (first // WINDOW) % len(going)
        for name in going[shift:] + going[:shift]:
            turns[name].append(descents[name].go_on(WINDOW))
        progress(f"{CASE}: training", first / most_steps)
    return turns
