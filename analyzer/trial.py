"""One sitting of an experiment: three processes, their outputs compared, their steps timed in turns."""

from __future__ import annotations

import math
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from analyzer.accuracy import Accuracy, compare_outputs
from analyzer.errors import HotbenchError
from analyzer.launch import Launch
from analyzer.launcher import AGAIN, BASELINE, CANDIDATE, Variant
from analyzer.progress import Progress, part
from analyzer.schedule import SIDES, Block, Sampling, play_block, rhythm_of
from analyzer.timing import Sample
from analyzer.verdict import Blocks, judge_time

SETTLE_SECONDS = 0.1
SETTLE_STEPS = 2
DEAR_BUILD_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Findings:
    """What a trial measured; empty blocks when the candidate never ran."""

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


@dataclass(slots=True)
class Process:
    """A variant's process, as the schedule drives it."""

    variant: Variant
    built: dict[str, Any] = field(default_factory=dict)

    def begin_build(self) -> None:
        """Ask for a build without waiting for it."""
        launch = self.variant.launch
        self.variant.send("build", entry=launch.entry, argument=launch.argument, threads=launch.threads)

    def end_build(self) -> None:
        """Wait for the build that was begun."""
        self.built = self.variant.receive()

    def settle(self) -> float:
        """Run warm-up steps and return the quickest one's seconds."""
        return float(self.variant.ask("settle", seconds=SETTLE_SECONDS, least=SETTLE_STEPS)["step_seconds"])

    def turn(self, count: int, repeats: int) -> Sequence[Sample]:
        """Return timed samples."""
        reply = self.variant.ask("block", count=count, repeats=repeats)
        return tuple(Sample(**sample) for sample in reply["samples"])


@contextmanager
def _processes(baseline: Launch, candidate: Launch, timeout_seconds: float) -> Iterator[tuple[Process, ...]]:
    with ExitStack() as stack:
        roles = ((BASELINE, baseline), (CANDIDATE, candidate), (AGAIN, baseline))
        yield tuple(
            Process(stack.enter_context(Variant(launch, role, timeout_seconds=timeout_seconds)))
            for role, launch in roles
        )


def run_trial(
    baseline: Launch,
    candidate: Launch,
    *,
    training: bool,
    max_error: float | None,
    sampling: Sampling,
    progress: Progress,
) -> Findings:
    """Return the findings of one sitting. Nothing of its processes or files is left when it ends, however it ends.

    Raises VariantError when a variant raises, dies or hangs; its role says which.
    """
    with _processes(baseline, candidate, sampling.timeout_seconds) as processes:
        progress("starting the variants", 0.0)
        _build(processes)
        before, after, _again = processes
        if before.built["training"] != training:
            kind = "trains" if before.built["training"] else "does not train"
            raise HotbenchError(f"baseline {baseline.name!r} {kind}, unlike the run; profile it again")
        progress("comparing outputs", 0.2)
        accuracy, own = _compare(processes, sampling.seeds, max_error)
        peak_before, peak_after = (int(process.variant.ask("peak")["peak_bytes"]) for process in (before, after))
        size_ratio = after.built["state_bytes"] / max(before.built["state_bytes"], 1)
        blocks = _measure(processes, sampling, part(progress, 0.3, 1.0))
        notes = tuple(_notes(own, blocks, processes))
    return Findings(blocks_of(blocks), accuracy, peak_before, peak_after, size_ratio, _cpu_ratio(blocks), notes)


def _build(processes: Sequence[Process]) -> None:
    """Build in all processes at once; nothing is timed meanwhile."""
    for process in processes:
        process.begin_build()
    for process in processes:
        process.end_build()


def _compare(processes: Sequence[Process], seeds: Sequence[int], max_error: float | None) -> tuple[Accuracy, Accuracy]:
    """Return the candidate's accuracy, and the baseline's against itself."""
    with tempfile.TemporaryDirectory(prefix="hotbench-") as folder:
        paths = [Path(folder) / f"{position}.safetensors" for position in range(len(processes))]
        replies = [
            process.variant.ask("outputs", seeds=list(seeds), path=str(path))
            for process, path in zip(processes, paths, strict=True)
        ]
        before, after, again = paths
        accuracy = compare_outputs(
            before,
            after,
            inputs=len(seeds),
            max_error=max_error,
            metric_before=replies[0]["metrics"],
            metric_after=replies[1]["metrics"],
        )
        return accuracy, compare_outputs(before, again, inputs=len(seeds), max_error=max_error)


def _measure(processes: Sequence[Process], sampling: Sampling, progress: Progress) -> list[Block]:
    """Return block after block, until the verdict on time is settled or the limits are reached."""
    found: list[Block] = []
    stop = time.monotonic() + sampling.limit_seconds
    while True:
        if not is_dear(processes):
            _build(processes)
        step_seconds = max(process.settle() for process in processes)
        found.append(play_block(processes, rhythm_of(step_seconds, sampling.block_seconds), len(found)))
        progress(f"timed block {len(found)}", len(found) / sampling.most_blocks)
        if len(found) >= sampling.blocks and (
            len(found) >= sampling.most_blocks or time.monotonic() > stop or judge_time(blocks_of(found)).settled
        ):
            return found


def is_dear(processes: Sequence[Process]) -> bool:
    """Return whether building takes too long to be done again for every block."""
    return max(float(process.built["seconds"]) for process in processes) > DEAR_BUILD_SECONDS


def blocks_of(blocks: Sequence[Block]) -> Blocks:
    """Return the seconds of the rounds, by side."""
    return Blocks(
        *(tuple(tuple(item.seconds[side] for item in block.rounds) for block in blocks) for side in range(SIDES))
    )


def _cpu_ratio(blocks: Sequence[Block]) -> float | None:
    spent = [item.cpu_seconds for block in blocks for item in block.rounds]
    ratios = [before / after for before, after, _ in spent if after > 0]
    return statistics.median(ratios) if ratios else None


def _notes(own: Accuracy, blocks: Sequence[Block], processes: Sequence[Process]) -> Iterator[str]:
    kept = [item for block in blocks for item in block.rounds]
    repeated = sum(block.repeated for block in blocks)
    disturbed = sum(item.disturbed for item in kept)
    if own.max_abs > 0 or not own.passed:
        yield f"the baseline does not repeat its own outputs: {own.reason}"
    if is_dear(processes):
        yield f"one build for all blocks, since it takes more than {DEAR_BUILD_SECONDS:g} s: its layout bias stays in"
    if repeated:
        yield f"{repeated} rounds were taken again: another process had a core for more than 2 % of a turn"
    if disturbed:
        yield f"in {disturbed} of {len(kept)} rounds another process had a core for more than 2 % of a turn"
