"""Small runs made by hand, for tests of what works on a Run without capturing one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from analyzer.device import Device, Environment, Peak
from analyzer.graph import Edge, Graph, Op, Tensor
from analyzer.measurement import Measurement
from analyzer.run import Coverage, MemoryProfile, Run, StepTime
from analyzer.workload import WorkloadReference

FLOPS_PER_SECOND = 1e11
BYTES_PER_SECOND = 1e10


@dataclass(frozen=True)
class Call:
    """One op to be made: it reads the outputs of the ops at `reads` (and one tensor from before when empty)."""

    name: str
    seconds: float
    reads: tuple[int, ...] = ()
    elements: int = 128
    flops: float | None = None
    bytes_moved: int | None = None
    phase: str = "forward"
    parent: int = -1
    scope: str = ""


def make_run(calls: Sequence[Call], *, training: bool = False, step_seconds: float | None = None) -> Run:
    """Return a run whose ops are `calls`; each writes one float32 tensor of its `elements`."""
    tensors: list[Tensor] = []
    ops: list[Op] = []
    edges: list[Edge] = []
    outputs: list[int] = []

    def add_tensor(elements: int, producer: int, category: str) -> int:
        index = len(tensors)
        tensors.append(Tensor(index, index, 0, (elements,), (1,), "float32", "cpu", 4 * elements, producer, category))
        return index

    for index, call in enumerate(calls):
        inputs = [outputs[source] for source in call.reads] or [add_tensor(call.elements, -1, "input")]
        output = add_tensor(call.elements, index, "temporary")
        outputs.append(output)
        edges += [Edge(source, index, outputs[source]) for source in call.reads]
        ops.append(
            Op(
                index=index,
                name=call.name,
                parent=call.parent,
                phase=call.phase,
                thread=1,
                inputs=tuple(inputs),
                outputs=(output,),
                scope=call.scope,
                source=f"model.py:{index + 1}",
                self_seconds=Measurement(call.seconds, 0.9 * call.seconds, 1.1 * call.seconds, 7, "s"),
                flops=float(call.elements) if call.flops is None else call.flops,
                bytes_moved=4 * call.elements * (len(inputs) + 1) if call.bytes_moved is None else call.bytes_moved,
            )
        )
    total = math.fsum(call.seconds for call in calls) if step_seconds is None else step_seconds
    total = total or 1e-6
    return Run(
        id="run-000000000001",
        name="model.py:workload",
        created="2026-01-02T03:04:05+00:00",
        workload=WorkloadReference("/models/model.py", "workload", "0" * 64, "1" * 64),
        training=training,
        device=Device(
            "cpu", "Test CPU", 2**34, 2,
            Peak(FLOPS_PER_SECOND, "FLOP/s", "measured: GEMM"),
            Peak(BYTES_PER_SECOND, "B/s", "measured: copy"),
        ),
        environment=Environment("3.11.7", "2.13.0", "0.68.1", "", "", "Linux", "Test CPU", ("avx2",)),
        threads=1,
        step_seconds=StepTime(total, 0.95 * total, 1.05 * total, 1.2 * total, 1.3 * total, 21),
        throughput=1 / total,
        overhead=Measurement(1.04, 1.02, 1.06, 7, "x"),
        graph=Graph(tuple(ops), tuple(tensors), tuple(edges)).check(),
        memory=MemoryProfile(4096, {"input": 512, "temporary": 3584}, ((0.0, 512), (0.5 * total, 4096))),
        coverage=Coverage(1.0, 1.0, 1.0),
        busy_seconds=None,
        idle_seconds=None,
    )  # fmt: skip
