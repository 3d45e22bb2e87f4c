"""Stages that differ in nothing but where their windows lie share their lines: ten equal layers compile as one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from kernels.compiler.loop_ir import Window
from kernels.compiler.loop_plain import PlainLoop
from kernels.recurrent.loop_points import Reach, WindowText, reach
from kernels.recurrent.loop_stages import Stage, Stages


@dataclass(frozen=True)
class Alike:
    """Stages with the same lines. names: what they differ in; values: that of each stage, in the order of `names`."""

    stages: tuple[int, ...]
    places: WindowText
    names: tuple[str, ...] = ()
    values: tuple[tuple[str, ...], ...] = ()

    def chosen(self, place: int) -> list[str]:
        """Return the lines that set what stage number `place` of these differs in."""
        return [f"{name} = {row[place]}" for name, row in zip(self.names, self.values, strict=True)]


def alike(stages: Stages) -> list[Alike]:
    """Return the stages in groups of equal lines, in the order of each one's first stage."""
    found: dict[tuple[object, ...], list[int]] = {}
    for number, stage in enumerate(stages.stages):
        found.setdefault(_signature(stages.program, stage), []).append(number)
    return [_together(stages, group) for group in found.values()]


def _together(stages: Stages, group: Sequence[int]) -> Alike:
    """Return the group: whatever is the same for all of its stages is written out, the rest gets a name."""
    rows = [[reach(*window) for window in windows_of(stages.stages[number])] for number in group]
    names: dict[tuple[str, ...], str] = {}

    def told(kind: str, values: tuple[str, ...]) -> str:
        if len(set(values)) == 1:
            return values[0]
        texts = values if kind == "memory" else tuple(f"int64({value})" for value in values)
        return names.setdefault(texts, f"{kind}{len(names)}")

    shared = {}
    for position, window in enumerate(windows_of(stages.stages[group[0]])):
        own = [row[position] for row in rows]
        shared[window] = Reach(
            told("memory", tuple(one.memory for one in own)),
            told("begin", tuple(one.begin for one in own)),
            told("step", tuple(one.step for one in own)),
            told("half", tuple(one.half for one in own)),
        )
    return Alike(tuple(group), WindowText(stages.program, shared), tuple(names.values()), tuple(names))


def windows_of(stage: Stage) -> list[tuple[Window, str]]:
    """Return every distinct window of a stage that is memory, with its dtype, in the order of its text."""
    found = [
        (window, buffer.dtype)
        for number, (window, buffer) in enumerate(zip(stage.windows, stage.region.buffers, strict=True))
        if number not in stage.products
    ]
    for product in stage.products.values():
        found += [(window, product.dtype) for term in product.terms for window in (term.left, term.right)]
    return list(dict.fromkeys(found))


def _signature(program: PlainLoop, stage: Stage) -> tuple[object, ...]:
    """Return all that a stage's lines depend on but the places of its windows."""
    windows = windows_of(stage)
    numbers = {window: number for number, (window, _) in enumerate(windows)}

    def kind(window: Window) -> tuple[object, ...]:
        written = program.buffers[window.buffer].written
        return bool(window.step), bool(window.alternate), window.phase & 1 if window.alternate else 0, written

    products = tuple(
        (number, product.rows, product.columns, product.out_stride, tuple(
            (term.depth, term.left_strides, term.right_strides, numbers[term.left], numbers[term.right])
            for term in product.terms
        ))
        for number, product in stage.products.items()
    )  # fmt: skip
    own = tuple(numbers.get(window, -1) for window in stage.windows)
    buffers = tuple(replace(buffer, name="") for buffer in stage.region.buffers)
    region = repr(replace(stage.region, buffers=buffers))
    return region, stage.row_axis, products, own, tuple(kind(window) for window, _ in windows)
