"""A loop without what is for one machine: panels are read where they lay before, fused statements are taken apart."""

from __future__ import annotations

from dataclasses import dataclass, replace

from kernels.compiler.ir import IrError
from kernels.compiler.loop_ir import Apply, LoopBuffer, LoopProgram, Pack, Product, Term, Window, parts


@dataclass(frozen=True, slots=True)
class PlainLoop:
    """A loop program of regions and products alone."""

    trips: int
    buffers: tuple[LoopBuffer, ...]
    prologue: tuple[Apply, ...]
    body: tuple[Apply | Product, ...]


def plain_loop(program: LoopProgram) -> PlainLoop:
    """Return a loop that computes what `program` computes.

    Raises IrError for a factor that the loop itself writes: its panels hold what it was in the prologue.
    """
    sources: dict[tuple[int, int], Window] = {}
    for statement in program.prologue:
        if isinstance(statement, Pack):
            source = statement.source
            if program.buffers[source.buffer].written:
                raise IrError(f"panels of buffer {program.buffers[source.buffer].name}, which the loop writes")
            sources[statement.out.buffer, statement.out.begin(-1)] = replace(source, offset=source.begin(-1), step=0)

    def unpacked(term: Term) -> Term:
        if not term.packed:
            return term
        return replace(term, right=sources[term.right.buffer, term.right.begin(-1)], packed=False)

    prologue = tuple(statement for statement in program.prologue if isinstance(statement, Apply))
    body: list[Apply | Product] = []
    for part in (part for statement in program.body for part in parts(statement)):
        if isinstance(part, Product):
            body.append(replace(part, terms=tuple(unpacked(term) for term in part.terms)))
        elif isinstance(part, Apply):
            body.append(part)
    return PlainLoop(program.trips, program.buffers, prologue, tuple(body))
