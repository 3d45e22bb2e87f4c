"""The layers of a captured run whose weights could be compressed, with what their ops took."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from analyzer.diagnosis.calls import Call, base_name, calls_of
from analyzer.graph import Tensor
from analyzer.run import Run

KINDS = {
    "linear": frozenset(("linear", "addmm", "mm", "matmul", "mv", "addmv")),
    "convolution": frozenset(("conv1d", "conv2d", "convolution", "_convolution")),
    "embedding": frozenset(("embedding",)),
    "recurrent": frozenset(("lstm", "gru", "rnn_tanh", "rnn_relu", "lstm_cell", "gru_cell", "rnn_tanh_cell",
                            "rnn_relu_cell")),
}  # fmt: skip
"""By kind of layer, the ops that read its weights."""

_OWN = "hotbench::"
_WHOLE = ("int", "uint", "bool")


@dataclass(frozen=True, slots=True)
class RunLayer:
    """One layer: the module of this name, as the ops of a step used it.

    shapes:  of its weights, each as a matrix: a convolution's [out, in * kernel].
    seconds: what its ops took in a step, with all that they called.
    flops:   of them. tied: the layer that has the same weights and came first; "" if there is none.
    refusal: why it is left alone; "" if it need not be.
    """

    name: str
    kind: str
    shapes: tuple[tuple[int, int], ...]
    bytes: int
    ops: tuple[int, ...]
    seconds: float
    flops: float
    tied: str = ""
    refusal: str = ""


def run_layers(run: Run) -> tuple[RunLayer, ...]:
    """Return every layer with weights of two axes or more, in the order in which a step reaches them."""
    found: dict[str, RunLayer] = {}
    owners: dict[int, str] = {}
    scale = _profiler_scale(run)
    for call in calls_of(run):
        weights = tuple(_weights(run, call))
        if not weights:
            continue
        name = call.op.scope
        known = found.get(name)
        first = owners.setdefault(weights[0].storage, name)
        added = _layer(call, weights, "" if first == name else first, scale)
        found[name] = added if known is None else _joined(known, added)
    return tuple(found.values())


def _weights(run: Run, call: Call) -> Iterator[Tensor]:
    # Buffers are of the same category: the positions that an embedding looks up are whole numbers, and no weights.
    # The packed weights of our own ops are whole numbers too.
    packed = call.op.name.startswith(_OWN)
    for index in call.op.inputs:
        tensor = run.graph.tensors[index]
        held = tensor.category == "parameter" and len(tensor.shape) >= 2 and all(tensor.shape)
        if held and (packed or not tensor.dtype.startswith(_WHOLE)):
            yield tensor


def _layer(call: Call, weights: tuple[Tensor, ...], tied: str, scale: float) -> RunLayer:
    op = base_name(call.op.name)
    kind = next((kind for kind, names in KINDS.items() if op in names), "other")
    shapes = tuple((tensor.shape[0], math.prod(tensor.shape[1:])) for tensor in weights)
    size = 0 if tied else sum(tensor.nbytes for tensor in weights)
    refusal = _refusal(call, kind, weights)
    return RunLayer(
        call.op.scope, kind, shapes, size, (call.op.index,), scale * call.seconds, call.flops, tied, refusal
    )


def _refusal(call: Call, kind: str, weights: tuple[Tensor, ...]) -> str:
    odd = next((tensor.dtype for tensor in weights if tensor.dtype != "float32"), "")
    if kind == "other":
        return f"{call.op.name} reads its weights, and has no compressed form"
    if odd:
        return f"its weights are {odd}; float32 weights are compressed"
    if not call.op.scope:
        return "its weights are used outside of a module, which could be exchanged"
    return ""


def _joined(known: RunLayer, added: RunLayer) -> RunLayer:
    """Return a layer that is used more than once: its ops add up, its weights are the same or further ones."""
    same = known.shapes == added.shapes
    return RunLayer(
        known.name,
        known.kind,
        known.shapes if same else (*known.shapes, *added.shapes),
        known.bytes if same else known.bytes + added.bytes,
        (*known.ops, *added.ops),
        known.seconds + added.seconds,
        known.flops + added.flops,
        known.tied,
        known.refusal or added.refusal,
    )


def _profiler_scale(run: Run) -> float:
    """Return by how much self times are to be scaled: the profiler's overhead inflates them."""
    inside = sum(op.self_seconds.median for op in run.graph.ops if op.self_seconds is not None)
    return min(1.0, run.step_seconds.median / inside) if inside else 1.0
