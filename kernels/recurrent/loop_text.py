"""The text of the persistent kernel of a loop: all trips in one launch, each block at one stage.

Blocks are divided among the stages. Those of a stage with products keep its weights in registers, a unit a warp, a
lane one column of every 32; in each tick they copy the left factors into shared memory, four rows at a time, multiply,
apply the region and publish what it stores. Those of a stage without products walk over its points. A grid barrier
ends a tick (loop_schedule.py says which trip a stage is at).
"""

from __future__ import annotations

from dataclasses import dataclass

from kernels.recurrent.loop_alike import Alike, alike
from kernels.recurrent.loop_points import WindowText, point_lines
from kernels.recurrent.loop_schedule import Pipeline
from kernels.recurrent.loop_stage_text import MOST_SLOTS, StageText
from kernels.recurrent.loop_stages import LoopError, Stage
from kernels.recurrent.text import WARP, indent

ENTRY = "persistent_loop"
MOST_SHARED_BYTES = 48 * 1024
FURTHER_REGISTERS = 24


@dataclass(frozen=True, slots=True)
class LoopText:
    """One kernel's text. warps: of a block."""

    pipeline: Pipeline
    warps: int

    @property
    def threads(self) -> int:
        """Return the threads of a block."""
        return WARP * self.warps

    @property
    def shares(self) -> tuple[int, ...]:
        """Return the blocks of each stage."""
        stages = self.pipeline.stages.stages
        return tuple(-(-stage.units // (self.warps if stage.products else self.threads)) for stage in stages)

    @property
    def blocks(self) -> int:
        """Return the blocks of the grid."""
        return sum(self.shares)

    @property
    def least_registers(self) -> int:
        """Return registers that a thread cannot do without: its weights, and a few for all else."""
        texts = [StageText(WindowText(self.pipeline.stages.program), s, 1) for s in self.pipeline.stages.stages]
        return FURTHER_REGISTERS + max(text.weights if text.resident else 0 for text in texts)

    def text(self) -> str:
        """Return the device's text. Raises LoopError where the left factors do not fit shared memory."""
        groups = alike(self.pipeline.stages)
        stages = [StageText(group.places, self._stage(group.stages[0]), self.warps) for group in groups]
        body = [
            "thread = int64(cuda.threadIdx.x)",
            "lane = thread & 31",
            "warp = thread >> 5",
            "block = int64(cuda.blockIdx.x)",
            *self._shared(stages),
            "phase = grid_phase(counter)",
            *self._before(),
        ]
        for position, (group, stage) in enumerate(zip(groups, stages, strict=True)):
            blocks = " or ".join(self._owned(number) for number in group.stages)
            lines = [*self._chosen(group), *stage.before(), *self._ticking(stage.body())]
            body += [f"{'elif' if position else 'if'} {blocks}:", *indent(lines)]
        return "\n".join([f"def {ENTRY}({', '.join(self.parameters())}):", *indent(body), ""])

    def _stage(self, number: int) -> Stage:
        return self.pipeline.stages.stages[number]

    def _owned(self, number: int) -> str:
        """Return whether `block` is one of a stage's, as text."""
        return f"(block >= {self._first(number)} and block < {self._first(number + 1)})"

    def _first(self, number: int) -> int:
        """Return the first block of a stage."""
        return sum(self.shares[:number])

    def _chosen(self, group: Alike) -> list[str]:
        """Return the lines that set, by block, what stages with the same lines differ in."""
        lines = []
        for place, number in enumerate(group.stages):
            own = [f"first_block = int64({self._first(number)})", f"delay = int64({self.pipeline.delays[number]})"]
            own += group.chosen(place)
            if len(group.stages) == 1:
                return own
            head = f"{'elif' if place else 'if'} block < {self._first(number + 1)}:"
            lines += [head if place + 1 < len(group.stages) else "else:", *indent(own)]
        return lines

    def parameters(self) -> list[str]:
        """Return the kernel's parameters: the address of each buffer, then that of the barrier's counter."""
        return [*(f"p{k}" for k in range(len(self.pipeline.stages.program.buffers))), "counter"]

    def _shared(self, stages: list[StageText]) -> list[str]:
        most = max(stage.shared_elements for stage in stages)
        if most * 4 > MOST_SHARED_BYTES:
            raise LoopError(f"factors of {most // MOST_SLOTS} columns; {MOST_SHARED_BYTES // 4 // MOST_SLOTS} fit")
        return [f"shared = cuda.shared.array({most}, float32)"] if most else []

    def _before(self) -> list[str]:
        """Return the prologue, shared by all threads of the grid, and the barrier behind it."""
        stages, lines = self.pipeline.stages, []
        for stage in stages.before:
            step = [
                *point_lines(WindowText(stages.program), stage, "-1"),
                f"unit = unit + {self.blocks * self.threads}",
            ]
            lines += [f"unit = block * {self.threads} + thread", f"while unit < {stage.units}:", *indent(step)]
        return [*lines, "phase = grid_barrier(counter, phase)"] if lines else []

    def _ticking(self, body: list[str]) -> list[str]:
        """Return the loop over ticks around what a stage does in its trips."""
        lines = [*trip_lines(self.pipeline, "delay"), "if active:", *indent(body)]
        barrier = [f"if tick < {self.pipeline.ticks}:", "    phase = grid_barrier(counter, phase)"]
        step = [*lines, "tick = tick + 1", *barrier]
        return ["tick = int64(0)", f"while tick < {self.pipeline.ticks}:", *indent(step)]


def trip_lines(pipeline: Pipeline, delay: str) -> list[str]:
    """Return the lines that set a stage's `trip` in `tick`, and `active`: whether it has one there."""
    period, trips = pipeline.period, pipeline.stages.program.trips
    since = f"tick - {delay}"
    if period == 1:
        return [f"trip = {since}", f"active = trip >= 0 and trip < {trips}"]
    return [
        f"since = {since}",
        f"trip = quotient_uint64(since, {period}) if since >= 0 else int64(-1)",
        f"active = trip >= 0 and trip < {trips} and since == {period} * trip",
    ]
