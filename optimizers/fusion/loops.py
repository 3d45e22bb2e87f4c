"""A loop in a lowered graph: the target of a call that stands for all the trips of a repeated stretch."""

from __future__ import annotations

from dataclasses import dataclass

from kernels.compiler.loop_ir import LoopProgram


@dataclass(frozen=True, slots=True)
class Loop:
    """What a call runs instead of an ATen op.

    memories: for each buffer of the program, the definition whose memory it is.
    period:   how many definitions one trip had.
    nodes:    the nodes of the captured graph that it computes.
    """

    program: LoopProgram
    memories: tuple[int, ...]
    period: int
    nodes: tuple[str, ...]

    @property
    def name(self) -> str:
        """Return the name under which the loop's kernel is known in the program's source."""
        return f"loop_{self.program.key()[:12]}"

    def __str__(self) -> str:
        """Return what a table of calls shows: an op's name would stand here."""
        return f"hotbench.{self.name}"
