"""Outputs lie in memory as eager's do, where making a graph functional has lost how they did."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from optimizers.fusion.recording import Recording, Ref


def laid_out(graph: torch.fx.GraphModule, recording: Recording) -> bool:
    """Return whether each output now has the recorded strides; contiguous ones are copied to have them.

    What forward wrote with out= or in place into memory of its own becomes a value of an op, in that op's layout.
    """
    layouts = {ref.number: layout for step in recording.steps for ref, layout in _results(step)}
    (output,) = (node for node in graph.graph.nodes if node.op == "output")
    outputs = list(output.args[0])
    for position, (node, recorded) in enumerate(zip(outputs, recording.outputs, strict=True)):
        layout = layouts.get(recorded.number) if isinstance(recorded, Ref) else None
        if layout is None or _same(node.meta["val"], layout.strides):
            continue
        wanted = torch.empty_strided(layout.shape, layout.strides, dtype=layout.dtype, device="meta")
        if not wanted.is_contiguous():
            return False
        with graph.graph.inserting_before(output):
            outputs[position] = graph.graph.call_function(
                torch.ops.aten.clone.default, (node,), {"memory_format": torch.contiguous_format}
            )
        outputs[position].meta["val"] = torch.ops.aten.clone.default(
            node.meta["val"], memory_format=torch.contiguous_format
        )
    output.args = (outputs,)
    graph.recompile()
    return True


def _results(step: Any) -> list[tuple[Ref, Any]]:
    return [(ref, layout) for ref, layout in zip(step.results, step.layouts, strict=True) if ref is not None]


def _same(value: torch.Tensor, strides: Sequence[int]) -> bool:
    """Return whether the strides that count are the same ones."""
    return (
        all(
            extent == 1 or ours == theirs
            for extent, ours, theirs in zip(value.shape, value.stride(), strides, strict=True)
        )
        or not value.numel()
    )
