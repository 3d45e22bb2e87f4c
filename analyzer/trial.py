"""The measuring part of an experiment: outputs compared, memory read, steps timed, differences confirmed."""

from __future__ import annotations

import math
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from analyzer.closeness import Accuracy
from analyzer.errors import HotbenchError
from analyzer.launch import Launch
from analyzer.progress import Progress, part
from analyzer.schedule import SIDES, Block, Sampling
from analyzer.sitting import DEAR_BUILD_SECONDS, Sitting, deadline, sit
from analyzer.verdict import Blocks, is_settled, judge_time

CLOCK_CHANGE = 0.02


@dataclass(frozen=True, slots=True)
class Findings:
    """What a trial measured; no blocks when the candidate never ran."""

    blocks: Blocks
    accuracy: Accuracy
    peak_bytes_before: int | None = None
    peak_bytes_after: int | None = None
    size_ratio: float = math.nan
    cpu_ratio: float | None = None
    notes: tuple[str, ...] = ()

    @property
    def memory_ratio(self) -> float | None:
        """Return after/before peak bytes; None where a peak is not known."""
        if not self.peak_bytes_before or self.peak_bytes_after is None:
            return None
        return self.peak_bytes_after / self.peak_bytes_before


def failed_trial(reason: str, max_error: float | None = None) -> Findings:
    """Return the findings of a candidate that could not run: nothing measured, and why."""
    tolerance = 0.0 if max_error is None else max_error
    accuracy = Accuracy(math.inf, math.inf, 0.0, None, 0, tolerance, "no outputs", {}, {}, False, reason)
    return Findings(Blocks(), accuracy)


def run_trial(
    baseline: Launch,
    candidate: Launch,
    *,
    training: bool,
    max_error: float | None,
    sampling: Sampling,
    progress: Progress,
) -> Findings:
    """Return the findings of one trial. Nothing of its processes or files is left when it ends, however it ends.

    A difference found in the first sitting has to show itself again in sittings of fresh processes.
    Raises VariantError when a variant raises, dies or hangs; its role says which.
    """
    progress("starting the variants", 0.0)
    with sit(baseline, candidate, sampling.timeout_seconds) as sitting:
        _check_training(sitting, training)
        progress("comparing outputs", 0.1)
        accuracy, own = _compare(sitting, sampling.seeds, max_error)
        peaks = [int(side.variant.ask("peak")["peak_bytes"]) for side in (sitting.before, sitting.after)]
        size_ratio = ratio_of_sizes(sitting.before.built["state_bytes"], sitting.after.built["state_bytes"])
        sitting.build()
        found, clocks = _measure(sitting, sampling, part(progress, 0.2, 0.6))
        dear = sitting.build_is_dear
    confirming = _confirm(baseline, candidate, found, sampling, part(progress, 0.6, 1.0))
    played = [found, *confirming]
    notes = (*_machine_notes([block for blocks in played for block in blocks]), *clocks)
    return Findings(
        blocks_of(played),
        accuracy,
        peaks[0],
        peaks[1],
        size_ratio,
        _cpu_ratio(played),
        (*_workload_notes(own, dear), *notes),
    )


def _check_training(sitting: Sitting, training: bool) -> None:
    found = sitting.before.built["training"]
    if found != training:
        kind = "trains" if found else "does not train"
        raise HotbenchError(f"the baseline {kind}, unlike the run that it is said to be; profile it again")


def ratio_of_sizes(before_bytes: int, after_bytes: int) -> float:
    """Return after over before; 1 where neither holds anything: nothing became smaller."""
    return 1.0 if before_bytes == after_bytes else after_bytes / max(before_bytes, 1)


def _compare(sitting: Sitting, seeds: Sequence[int], max_error: float | None) -> tuple[Accuracy, Accuracy]:
    """Return the candidate's accuracy, and the baseline's against itself."""
    # Here, as it loads torch: an experiment is read without it.
    from analyzer.accuracy import compare_outputs

    with tempfile.TemporaryDirectory(prefix="hotbench-") as folder:
        paths = [Path(folder) / name for name in ("before", "after", "again", "nudged")]
        replies = [
            process.variant.ask("outputs", seeds=list(seeds), path=str(path))
            for process, path in zip(sitting.processes, paths, strict=False)
        ]
        before, after, again, nudged = paths
        own = compare_outputs(before, again, inputs=len(seeds), max_error=max_error)
        sensitivity = own.max_rel
        if sitting.before.built["training"]:
            sitting.build()
            sitting.again.variant.ask("outputs", seeds=list(seeds), path=str(nudged), nudge=True)
            sensitivity = compare_outputs(before, nudged, inputs=len(seeds)).max_rel
        accuracy = compare_outputs(
            before,
            after,
            inputs=len(seeds),
            max_error=max_error,
            sensitivity=sensitivity,
            metric_before=replies[0]["metrics"],
            metric_after=replies[1]["metrics"],
        )
        return accuracy, own


def _measure(sitting: Sitting, sampling: Sampling, progress: Progress) -> tuple[list[Block], list[str]]:
    """Return the blocks of the first sitting, and what its clocks did meanwhile."""
    is_late = deadline(sampling.limit_seconds)

    def enough(found: Sequence[Block]) -> bool:
        progress(f"timed block {len(found)}", len(found) / sampling.most_blocks)
        if len(found) < sampling.blocks:
            return False
        return len(found) >= sampling.most_blocks or is_late() or is_settled(blocks_of([found]))

    clocks = [sitting.before.variant.ask("clock")["megahertz"]]
    found = sitting.play(sampling.block_seconds, enough)
    clocks.append(sitting.before.variant.ask("clock")["megahertz"])
    return found, list(_clock_notes(*clocks))


def _confirm(
    baseline: Launch, candidate: Launch, found: Sequence[Block], sampling: Sampling, progress: Progress
) -> list[Sequence[Block]]:
    """Return the blocks of further sittings in fresh processes: none, unless a difference needs confirming."""
    played: list[Sequence[Block]] = []

    def enough(blocks: Sequence[Block]) -> bool:
        # A sitting that does not show it yet may be short of blocks: it gets as many once more.
        shown = judge_time(blocks_of([found, *played, blocks])).word != "inconclusive"
        return len(blocks) >= (1 if shown else 2) * sampling.confirm_blocks

    for position in range(sampling.confirmations):
        if judge_time(blocks_of([found, *played])).word == "inconclusive":
            break
        progress(f"confirming in fresh processes: {position + 1}", position / sampling.confirmations)
        with sit(baseline, candidate, sampling.timeout_seconds) as sitting:
            played.append(sitting.play(sampling.block_seconds, enough))
    progress("timed", 1.0)
    return played


def blocks_of(sittings: Sequence[Sequence[Block]]) -> Blocks:
    """Return the seconds of the rounds, by side."""
    blocks = [block for sitting in sittings for block in sitting]
    before, after, again = (
        tuple(tuple(item.seconds[side] for item in block.rounds) for block in blocks) for side in range(SIDES)
    )
    return Blocks(before, after, again, tuple(len(sitting) for sitting in sittings))


def _cpu_ratio(sittings: Sequence[Sequence[Block]]) -> float | None:
    spent = [item.cpu_seconds for blocks in sittings for block in blocks for item in block.rounds]
    ratios = [before / after for before, after, _ in spent if after > 0]
    return statistics.median(ratios) if ratios else None


def _workload_notes(own: Accuracy, dear: bool) -> Iterator[str]:
    if own.max_abs > 0 or not own.passed:
        yield f"the baseline does not repeat its own outputs: {own.reason}"
    if dear:
        yield f"one build for all blocks of a sitting, since it takes more than {DEAR_BUILD_SECONDS:g} s"


def _machine_notes(blocks: Sequence[Block]) -> Iterator[str]:
    kept = [item for block in blocks for item in block.rounds]
    repeated = sum(block.repeated for block in blocks)
    disturbed = sum(item.disturbed for item in kept)
    if repeated:
        yield f"{repeated} rounds were taken again: another process had a core for more than 2 % of a turn"
    if disturbed:
        yield (
            f"in {disturbed} of {len(kept)} rounds another process had a core for more than 2 % of a turn; "
            "the time waited is not counted"
        )


def _clock_notes(before: float | None, after: float | None) -> Iterator[str]:
    if before and after and abs(after / before - 1) > CLOCK_CHANGE:
        yield f"the device's clock went from {before:g} to {after:g} MHz while it was timed"
