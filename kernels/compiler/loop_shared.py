"""A loop on several threads: each makes all trips, does its share of each statement, and waits for the others."""

from __future__ import annotations

from collections.abc import Sequence

from kernels.compiler.loop_call import Call
from kernels.compiler.loop_ir import LoopProgram, Pack, Product, parts
from kernels.compiler.print_numba import signature
from kernels.compiler.source import Source

FEWEST_FLOPS = 100_000
"""Of the products of a trip that are worth two meetings of the threads, some 0.3 us."""
_OPTIONS = 'cache=True, nogil=True, error_model="numpy", boundscheck=False'
_SLOTS = 4
"""Of the task, before the addresses: what counts the threads, their number, the counter and sched_yield."""


def worth_sharing(program: LoopProgram) -> bool:
    """Return whether a trip is long enough for threads to share it."""
    products = [part for statement in program.body for part in parts(statement) if isinstance(part, Product)]
    flops = sum(2 * each.rows * each.columns * term.depth for each in products for term in each.terms)
    return flops >= FEWEST_FLOPS


def print_shared(source: Source, name: str, program: LoopProgram, calls: Sequence[Call]) -> None:
    """Print `NAME_share(task)`, what each thread does, and `NAME_parallel(addresses, runtime, share, threads)`.

    calls: of each statement, prologue first.
    """
    parameters = [f"p{k}" for k in range(len(program.buffers))]
    source.line("")
    source.line("")
    source.line('@numba.cfunc("void(int64)", cache=True)')
    with source.block(f"def {name}_share(task):"):
        source.line("threads = call_integer(load_int64(task, 0, 0))")
        source.line("thread = call_integer(load_int64(task, 1, 0))")
        source.line("counter = load_int64(task, 2, 0)")
        source.line("yielding = load_int64(task, 3, 0)")
        for k, parameter in enumerate(parameters):
            source.line(f"{parameter} = load_int64(task, {_SLOTS + k}, 0)")
        for items in sorted({call.items for call in calls} - {0}):
            source.line(f"begin{items} = {items} * thread // threads")
            source.line(f"end{items} = {items} * (thread + 1) // threads")
        source.line("goal = 0")
        _prologue(source, calls[: len(program.prologue)])
        with source.block(f"for trip in range({program.trips}):"):
            for call in calls[len(program.prologue) :]:
                if call.items:
                    source.line(call.text("trip", (f"begin{call.items}", f"end{call.items}")))
                else:
                    with source.block("if thread == 0:"):
                        source.line(call.text("trip"))
                _meet(source)
    _start(source, name, parameters)


def _prologue(source: Source, calls: Sequence[Call]) -> None:
    """Print the prologue: panels of several factors are filled by several threads, the rest by the first."""
    packs = 0
    for call in calls:
        turn = packs if isinstance(call.statement, Pack) else 0
        packs += isinstance(call.statement, Pack)
        with source.block(f"if thread == {turn} % threads:"):
            source.line(call.text("-1"))
    _meet(source)


def _meet(source: Source) -> None:
    source.line("goal += threads")
    source.line("wait_for_all(counter, goal, yielding)")


def _start(source: Source, name: str, parameters: Sequence[str]) -> None:
    source.line("")
    source.line("")
    source.line(f'@numba.njit("void({signature(len(parameters) + 3)})", {_OPTIONS})')
    with source.block(f"def {name}_parallel({', '.join(parameters)}, runtime, share, threads):"):
        source.line("counter = stack(128)")
        source.line("store_int64(counter, 0, 0, 1)")
        source.line(f"task = stack({8 * (_SLOTS + len(parameters))})")
        source.line("store_int64(task, 0, load_int64(runtime, 1, 0), 0)")
        source.line("store_int64(task, 1, load_int64(runtime, 2, 0), 0)")
        source.line("store_int64(task, 2, counter, 0)")
        source.line("store_int64(task, 3, load_int64(runtime, 3, 0), 0)")
        for k, parameter in enumerate(parameters):
            source.line(f"store_int64(task, {_SLOTS + k}, {parameter}, 0)")
        source.line("call_parallel(load_int64(runtime, 0, 0), share, task, threads)")
