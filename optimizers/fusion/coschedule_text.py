"""In a program's source, kernel calls that follow each other become one call of `together`."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from kernels.compiler.ir import ITEM_BYTES, Region
from kernels.compiler.loop_ir import LoopProgram
from optimizers.fusion.coschedule import estimated_seconds

CONTRACT = '''def together(kernels, calls, facts):
    """Return what makes the kernel calls (name, addresses) in order, or as the joiner among the kernels makes them.

    facts: for each kernel, its estimated seconds, and (bytes, whether it is written) of each buffer.
    """
    join = kernels.get("together")
    if join is not None:
        return join(calls, facts)
    pairs = [(kernels[name], addresses) for name, addresses in calls]

    def run():
        for kernel, addresses in pairs:
            kernel(*addresses)

    return run


'''
_CALL = re.compile(r"(k\d+)\(\*(a\d+)\)")
_FEWEST = 2


def joined(run: Sequence[str], names: Mapping[str, str], kernels: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Return (lines for bind, lines for run) in which runs of kernel calls at fixed addresses are one call.

    names: kernel's name by the variable that holds it.
    """
    bind: list[str] = []
    result: list[str] = []
    waiting: list[tuple[str, str]] = []
    used: dict[str, str] = {}

    def flush() -> None:
        if len(waiting) < _FEWEST:
            result.extend(f"{kernel}(*{addresses})" for kernel, addresses in waiting)
        else:
            calls = ", ".join(f'("{names[kernel]}", {addresses})' for kernel, addresses in waiting)
            used.update({names[kernel]: kernel for kernel, _ in waiting})
            bind.append(f"j{len(bind)} = together(kernels, ({calls}), facts)")
            result.append(f"j{len(bind) - 1}()")
        waiting.clear()

    for line in run:
        found = _CALL.fullmatch(line)
        # What may raise is called from Python.
        if found is not None and found[1] in names and not getattr(kernels[names[found[1]]], "raises", False):
            waiting.append((found[1], found[2]))
        else:
            flush()
            result.append(line)
    flush()
    if bind:
        bind = ["facts = {", *(f'    "{name}": {_facts(kernels[name])},' for name in used), "}", *bind]
    return bind, result


def _facts(kernel: Any) -> tuple[float, tuple[tuple[int, bool], ...]]:
    if isinstance(kernel, LoopProgram):
        buffers = tuple((buffer.nbytes, True) for buffer in kernel.buffers)
    else:
        buffers = tuple((buffer.elements * ITEM_BYTES[buffer.dtype], buffer.written) for buffer in kernel.buffers)
    nbytes = sum(size for size, _ in buffers)
    return round(estimated_seconds(nbytes, _flops(kernel)), 8), buffers


def _flops(kernel: Any) -> int:
    if isinstance(kernel, Region):
        # Vectors of a region's values take about as long as as many multiply-adds of half a vector.
        return 4 * math.prod(kernel.domain) * len(kernel.values)
    if isinstance(kernel, LoopProgram):
        return kernel.trips * 100_000
    return int(getattr(kernel, "flops", 0))
