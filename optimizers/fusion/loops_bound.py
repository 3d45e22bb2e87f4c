"""What the products of a program's loops take at least in the library: a bound that spares building without loops."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import torch

from kernels.compiler.loop_ir import Product, parts
from optimizers.fusion.program import Program

_DTYPES = {"float32": torch.float32, "float64": torch.float64}
_REPEATS = 20


def surely_faster(program: Program, run: Callable[[], Any]) -> bool:
    """Return whether the program, which `run` runs, is faster than the library's products for its loops alone.

    Without loops each trip calls the library for each product of values that the trips carry, and much else besides.
    Counted are those products alone, at the best time that was measured for each shape: the program without loops
    takes longer than that, so one that is faster still need not be compared with it.
    """
    threads = torch.get_num_threads()
    clock = time.thread_time if threads == 1 else time.perf_counter
    bound = 0.0
    known: dict[tuple[Any, ...], float] = {}
    for trips, shape in _carried_products(program):
        if shape not in known:
            known[shape] = _product_seconds(*shape, clock)
        bound += trips * known[shape]
    return bool(known) and _least(run, clock, 3) < bound


def _carried_products(program: Program) -> Iterator[tuple[int, tuple[int, int, int, str]]]:
    """Yield trips and (rows, depth, columns, dtype) of each product of a loop whose left factor the loop computes."""
    for loop in program.loops:
        for statement in loop.program.body:
            for part in parts(statement):
                if isinstance(part, Product):
                    for term in part.terms:
                        # What comes from outside could be one product for all trips.
                        if term.left.value >= 0:
                            yield loop.program.trips, (part.rows, term.depth, part.columns, part.dtype)


def _product_seconds(rows: int, depth: int, columns: int, dtype: str, clock: Callable[[], float]) -> float:
    generator = torch.Generator().manual_seed(0)
    left = torch.rand(rows, depth, dtype=_DTYPES[dtype], generator=generator)
    right = torch.rand(depth, columns, dtype=_DTYPES[dtype], generator=generator)
    out = torch.empty(rows, columns, dtype=_DTYPES[dtype])
    return _least(lambda: torch.mm(left, right, out=out), clock, _REPEATS)


def _least(run: Callable[[], Any], clock: Callable[[], float], repeats: int) -> float:
    run()  # the first call warms caches
    best = float("inf")
    for _ in range(repeats):
        begin = clock()
        run()
        best = min(best, clock() - begin)
    return best
