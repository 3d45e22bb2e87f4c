"""The persistent loop's CPU twin: one host thread, tick by tick, stage by stage, point by point."""

from __future__ import annotations

from kernels.recurrent.loop_points import WindowText, axis_names, load_line, loads_of, scaled, store_lines, value_line
from kernels.recurrent.loop_schedule import Pipeline
from kernels.recurrent.loop_stages import Stage
from kernels.recurrent.loop_text import ENTRY, LoopText, trip_lines
from kernels.recurrent.text import indent


def twin_text(text: LoopText) -> str:
    """Return the text, whose parameters are the device's."""
    pipeline = text.pipeline
    lines = [line for stage in pipeline.stages.before for line in _points(pipeline, stage, "-1")]
    ticks = []
    for number, stage in enumerate(pipeline.stages.stages):
        ticks += [
            *trip_lines(pipeline, str(pipeline.delays[number])),
            "if active:",
            *indent(_points(pipeline, stage, "trip")),
        ]
    lines += [f"for tick in range({pipeline.ticks}):", *indent(ticks)]
    return "\n".join([f"def {ENTRY}({', '.join(text.parameters())}):", *indent(lines), ""])


def _points(pipeline: Pipeline, stage: Stage, trip: str) -> list[str]:
    places, loads, reads = WindowText(pipeline.stages.program), loads_of(stage), stage.column_reads()
    lines = [load_line(places, stage, k, trip) for k in loads]
    for number, (buffer, access) in enumerate(reads):
        lines.append(f"p_{number} = float32(0.0)")
        row = "0" if stage.row_axis is None else f"i{stage.row_axis}"
        rest = [
            term
            for axis, (stride, name) in enumerate(zip(access.strides, axis_names(stage), strict=True))
            for term in scaled(stride, name)
            if axis != stage.row_axis
        ]
        column = f"({' + '.join([str(access.offset), *rest])})"
        for term in stage.products[buffer].terms:
            left = [places.element(term.left, trip, "float32"), *scaled(term.left_strides[0], row)]
            right = [places.element(term.right, trip, "float32"), *scaled(term.right_strides[0], "depth")]
            left_load = f"load_float32(p{term.left.buffer}, {_sum(left, term.left_strides[1], 'depth')})"
            right_load = f"load_float32(p{term.right.buffer}, {_sum(right, term.right_strides[1], column)})"
            lines += [f"for depth in range({term.depth}):", f"    p_{number} = p_{number} + {left_load} * {right_load}"]
    lines += [value_line(stage, k, reads) for k in range(len(stage.region.values)) if k not in loads]
    lines += store_lines(places, stage, trip)
    for axis, extent in reversed(list(enumerate(stage.region.domain))):
        lines = [f"for i{axis} in range({extent}):", *indent(lines)]
    return lines


def _sum(terms: list[str], stride: int, index: str) -> str:
    return " + ".join([*terms, *scaled(stride, index)])
