"""One tensor that crosses workers, named by its place in the model, on the clock of the captured step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from analyzer.graph import Graph, Op, Tensor
from analyzer.run import Run


@dataclass(frozen=True, slots=True)
class Crossing:
    """One tensor that another worker needs; seconds since the step began.

    kind: "gradient", "parameter" or "activation".    scope: the module that it belongs to.
    ready_op, needed_op: indices into the run's ops; -1: before the step, or after it.
    dynamic: why its shape is not known in advance; "" where it is the same in every step that was seen.
    """

    name: str
    kind: str
    scope: str
    shape: tuple[int, ...]
    dtype: str
    bytes: int
    ready_op: int
    ready_seconds: float
    needed_op: int
    needed_seconds: float
    dynamic: str = ""


class StepClock:
    """When each op begins and ends, in seconds since the step began; what no op explains is spread over all."""

    def __init__(self, run: Run) -> None:
        cuda = run.device.kind == "cuda"
        self.ops = run.graph.ops
        raw = [_seconds(op, cuda) for op in self.ops]
        total = sum(raw)
        self.total = run.step_seconds.median
        scale = self.total / total if total > 0 else 0.0
        self.own = [seconds * scale for seconds in raw]
        self.ends = list(accumulate(self.own))
        self.last_inside = list(range(len(self.ops)))
        for op in reversed(self.ops):
            if op.parent >= 0:
                self.last_inside[op.parent] = max(self.last_inside[op.parent], self.last_inside[op.index])

    def start(self, op: int) -> float:
        """Return when an op starts; 0 for one before the step."""
        return self.ends[op] - self.own[op] if op >= 0 else 0.0

    def end(self, op: int) -> float:
        """Return when an op and all that it called are over; 0 for one before the step."""
        return self.ends[self.last_inside[op]] if op >= 0 else 0.0

    def end_of(self, phase: str) -> float:
        """Return when the last op of a phase is over; 0 where it has none."""
        return max((self.ends[op.index] for op in self.ops if op.phase == phase), default=0.0)


def _seconds(op: Op, cuda: bool) -> float:
    measured = op.device_seconds if cuda and op.device_seconds is not None else op.self_seconds
    return 0.0 if measured is None else measured.median


def make_crossing(
    name: str, kind: str, scope: str, tensor: Tensor, ready: int, needed: int, clock: StepClock, dynamic: str = ""
) -> Crossing:
    """Return the tensor with when it is ready and when it is needed."""
    until = clock.start(needed) if needed >= 0 else clock.total
    return Crossing(
        name,
        kind,
        scope,
        tensor.shape,
        tensor.dtype,
        tensor.nbytes,
        ready,
        clock.end(ready),
        needed,
        until,
        dynamic,
    )


class Names:
    """Names tensors by module and shape: a run knows its parameters' places, not what the model calls them."""

    def __init__(self) -> None:
        self.seen: dict[str, int] = {}

    def next(self, scope: str, shape: Sequence[int]) -> str:
        """Return the next name of a tensor of this shape in this module."""
        base = f"{scope or 'model'} {'x'.join(str(size) for size in shape) or 'scalar'}"
        count = self.seen[base] = self.seen.get(base, 0) + 1
        return base if count == 1 else f"{base} #{count}"


def scope_of(graph: Graph, tensor: Tensor) -> str:
    """Return the module that made a tensor's memory what it is: the backward of the op that used the parameter."""
    return graph.ops[tensor.producer].scope if tensor.producer >= 0 else ""
