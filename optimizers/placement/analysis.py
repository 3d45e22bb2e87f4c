"""What crosses workers in a captured training step: gradients, parameters, activations; when ready, when needed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from analyzer.graph import Graph, Tensor
from analyzer.run import Run
from optimizers.placement.buckets import Gradient
from optimizers.placement.crossing import Crossing, Names, StepClock, make_crossing, scope_of
from optimizers.placement.cuts import Cut, find_cuts
from optimizers.placement.errors import PlacementError

ACCUMULATE = "torch::autograd::AccumulateGrad"


@dataclass(frozen=True, slots=True)
class Traffic:
    """What a training step would send if several workers did it, and how long its phases take.

    gradients: in the order in which backward makes them ready.    cuts: in the order of the forward.
    runs: how many captured steps the shapes were compared over.
    """

    run: str
    step_seconds: float
    forward_seconds: float
    backward_seconds: float
    optimizer_seconds: float
    gradients: tuple[Crossing, ...]
    parameters: tuple[Crossing, ...]
    cuts: tuple[Cut, ...]
    activation_bytes: int
    runs: int = 1

    @property
    def gradient_bytes(self) -> int:
        """Return the bytes of all gradients."""
        return sum(item.bytes for item in self.gradients)

    @property
    def ready(self) -> tuple[Gradient, ...]:
        """Return the gradients as make_buckets takes them: their seconds count from where backward begins."""
        return tuple(
            Gradient(item.name, item.shape, item.dtype, item.bytes, max(item.ready_seconds - self.forward_seconds, 0.0))
            for item in self.gradients
        )


def analyse(run: Run) -> Traffic:
    """Return what crosses workers in the run's step.

    The times of the ops are scaled to the step without a profiler. Raises PlacementError for a run that does not train
    or whose graph does not show when gradients are accumulated.
    """
    if not run.training:
        raise PlacementError(f"run {run.name!r} does not train: its workers would have nothing to exchange")
    clock = StepClock(run)
    gradients = tuple(_gradients(run.graph, clock))
    if not gradients:
        raise PlacementError(f"run {run.name!r} shows no gradient being accumulated; profile a training step again")
    parameters = tuple(_parameters(run.graph, clock))
    forward, backward = clock.end_of("forward"), clock.end_of("backward")
    return Traffic(
        run=run.id,
        step_seconds=clock.total,
        forward_seconds=forward,
        backward_seconds=max(backward - forward, 0.0),
        optimizer_seconds=max(clock.total - max(backward, forward), 0.0),
        gradients=gradients,
        parameters=parameters,
        cuts=tuple(find_cuts(run.graph, clock)),
        activation_bytes=sum(_storages(run.graph, "activation").values()),
    )


def _gradients(graph: Graph, clock: StepClock) -> Iterator[Crossing]:
    needed = _first_reads(graph, "optimizer")
    names = Names()
    for op in graph.ops:
        if op.name != ACCUMULATE or not op.inputs:
            continue
        tensor = graph.tensors[op.inputs[0]]
        scope = scope_of(graph, tensor)
        reader = needed.get(tensor.storage, -1)
        yield make_crossing(names.next(scope, tensor.shape), "gradient", scope, tensor, op.index, reader, clock)


def _parameters(graph: Graph, clock: StepClock) -> Iterator[Crossing]:
    """Yield each parameter: ready when the optimizer has written it, needed when the next forward reads it."""
    needed, written = _first_reads(graph, "forward"), _last_writes(graph)
    names = Names()
    for tensor in _originals(graph, "parameter"):
        reader = needed.get(tensor.storage, -1)
        scope = graph.ops[reader].scope if reader >= 0 else ""
        ready = written.get(tensor.storage, -1)
        yield make_crossing(names.next(scope, tensor.shape), "parameter", scope, tensor, ready, reader, clock)


def _originals(graph: Graph, category: str) -> Iterator[Tensor]:
    """Yield the first tensor of each storage of a category: views and later versions are the same memory."""
    seen: set[int] = set()
    for tensor in graph.tensors:
        if tensor.category == category and tensor.storage not in seen:
            seen.add(tensor.storage)
            yield tensor


def _storages(graph: Graph, category: str) -> dict[int, int]:
    found: dict[int, int] = {}
    for tensor in graph.tensors:
        if tensor.category == category:
            found[tensor.storage] = max(found.get(tensor.storage, 0), tensor.nbytes)
    return found


def _first_reads(graph: Graph, phase: str) -> dict[int, int]:
    """Return the first op of a phase that reads each storage."""
    found: dict[int, int] = {}
    for op in graph.ops:
        if op.phase == phase:
            for index in op.inputs:
                found.setdefault(graph.tensors[index].storage, op.index)
    return found


def _last_writes(graph: Graph) -> dict[int, int]:
    found: dict[int, int] = {}
    for op in graph.ops:
        for index in op.mutates:
            found[graph.tensors[index].storage] = op.index
    return found
