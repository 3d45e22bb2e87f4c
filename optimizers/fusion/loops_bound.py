"""What the products of a program's loops take at least in the library: a bound that spares building without loops."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch

from kernels.compiler.loop_ir import Apply, LoopProgram, Product, Window, parts
from kernels.compiler.loop_verify import operands
from kernels.compiler.product_ir import ProductKernel
from optimizers.fusion.program import Program

_DTYPES = {"float32": torch.float32, "float64": torch.float64}
_REPEATS, _RUNS = 20, 7
_CALL_SECONDS, _BYTES_PER_SECOND = 0.4e-6, 100e9
"""Less than a call from Python takes, and more than a core reads and writes in its second-level cache."""
_MOST_FLOPS = 2_000_000_000
"""Of the repeats of one product: some 30 ms."""

aten = torch.ops.aten


Shape = tuple[int, int, int, str]
"""Rows, depth and columns of a product, and its dtype."""


def surely_faster(program: Program, run: Callable[[], Any]) -> bool:
    """Return whether the program, which `run` runs, is faster than its products alone would be in the library.

    Without loops each trip calls the library for each product of values that the trips carry, once for what of them
    comes from outside, and a kernel for each region. Counted are the products, those around the loops too, at the best
    time that was measured for each shape, and the least that the kernels take: the program without loops takes longer
    than that, so one that is faster still need not be compared with it.
    """
    products = library_products(program)
    if not products:
        return False
    clock = time.thread_time if torch.get_num_threads() == 1 else time.perf_counter
    seconds = sum(count * _product_seconds(shape, clock) for shape, count in products.items())
    seconds += sum(_kernel_seconds(loop.program) for loop in program.loops)
    return _least(run, clock, _RUNS) < seconds


def _kernel_seconds(loop: LoopProgram) -> float:
    """Return the least that the regions of all trips take as kernels of their own: their calls, and their memory."""
    each = [part for statement in loop.body for part in parts(statement)]
    nbytes = sum(operand.nbytes for part in each if isinstance(part, Apply) for operand in operands(part))
    return loop.trips * (len(each) * _CALL_SECONDS + nbytes / _BYTES_PER_SECOND)


def library_products(program: Program) -> Counter[Shape]:
    """Return how often the library would be called for each shape of product without loops; nothing if none has any."""
    products: Counter[Shape] = Counter()
    for loop in program.loops:
        products.update(_of_loop(loop.program))
    if products:
        products.update(_around(program))
    return products


def _of_loop(loop: LoopProgram) -> Counter[Shape]:
    found: Counter[Shape] = Counter()
    products = [part for statement in loop.body for part in parts(statement) if isinstance(part, Product)]
    for product in products:
        rows, columns, dtype = product.rows, product.columns, product.dtype
        for term in product.terms:
            if term.left.value >= 0:
                found[rows, term.depth, columns, dtype] += loop.trips
            elif _is_fixed(term.right):
                # Of what comes from outside one product may do for all trips.
                found[rows * loop.trips, term.depth, columns, dtype] += 1
    return found


def _is_fixed(right: Window) -> bool:
    """Return whether a right factor is the same in every trip: it was put in panels, or comes from outside."""
    return right.age is None or (right.value < 0 and not right.step)


def _around(program: Program) -> Counter[Shape]:
    """Return the products that are no part of a loop: with or without loops they are computed."""
    bodies = [bound.region for bound in program.bounds.values()]
    found = Counter((b.rows, b.depth, b.columns, "float32") for b in bodies if isinstance(b, ProductKernel))
    for unit in program.units:
        call = program.lowered.calls[unit.number] if unit.kind == "call" else None
        if call is not None and call.target in (aten.mm.default, aten.addmm.default):
            left, right = program.lowered.call_inputs(call)[-2:]
            dtype = program.lowered.definitions[left.source].dtype
            if dtype in _DTYPES:
                found[left.shape[0], left.shape[1], right.shape[1], dtype] += 1
    return found


def _product_seconds(shape: Shape, clock: Callable[[], float]) -> float:
    rows, depth, columns, dtype = shape
    generator = torch.Generator().manual_seed(0)
    left = torch.rand(rows, depth, dtype=_DTYPES[dtype], generator=generator)
    right = torch.rand(depth, columns, dtype=_DTYPES[dtype], generator=generator)
    out = torch.empty(rows, columns, dtype=_DTYPES[dtype])
    repeats = min(max(_MOST_FLOPS // (2 * rows * depth * columns), 3), _REPEATS)
    return _least(lambda: torch.mm(left, right, out=out), clock, repeats)


def _least(run: Callable[[], Any], clock: Callable[[], float], repeats: int) -> float:
    run()  # the first call warms caches
    best = float("inf")
    for _ in range(repeats):
        begin = clock()
        run()
        best = min(best, clock() - begin)
    return best
