"""Large stored runs that no model made: every figure in them is drawn from a seeded generator, and they say so.

They stand in for captures that would take long to make: of many ops, in a tree of modules. Ids, tables and folders are
those of any run. `python -m benchmarks.synthetic_runs --store FOLDER --ops 100000`
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np

from analyzer.device import Device, Environment, Peak
from analyzer.graph import Edge, Graph, Op, Tensor
from analyzer.measurement import Measurement
from analyzer.run import Coverage, MemoryProfile, Run, StepTime, save_run, with_content_id
from analyzer.workload import WorkloadReference
from app.store import Store, open_store

NAME = "synthetic"
NOTE = "synthetic: made by benchmarks.synthetic_runs, measured on nothing"
_BLOCK = (
    ("norm", "aten::layer_norm", 1.0),
    ("attention.query_key_value", "aten::linear", 9.0),
    ("attention", "aten::view", 0.1),
    ("attention", "aten::transpose", 0.1),
    ("attention", "aten::scaled_dot_product_attention", 7.0),
    ("attention.output", "aten::linear", 3.0),
    ("", "aten::add", 0.6),
    ("mlp.expand", "aten::linear", 11.0),
    ("mlp.activation", "aten::gelu", 2.0),
    ("mlp.contract", "aten::linear", 11.0),
    ("", "aten::add", 0.6),
)
_INNER = {"aten::linear": ("aten::t", "aten::addmm"), "aten::layer_norm": ("aten::native_layer_norm",)}


@dataclass
class _Build:
    """The lists that a run is made of, as they grow."""

    random: np.random.Generator
    ops: list[Op]
    tensors: list[Tensor]
    edges: list[Edge]

    def tensor(self, producer: int, category: str = "activation") -> int:
        index, width = len(self.tensors), 64 * int(self.random.integers(1, 17))
        self.tensors.append(
            Tensor(index, index, 0, (8, width), (width, 1), "float32", "cpu", 32 * width, producer, category)
        )
        return index

    def op(self, name: str, scope: str, source: str, weight: float, reads: list[int], parent: int, works: bool) -> int:
        """Add an op and return the tensor that it writes; one that calls others only costs time."""
        index = len(self.ops)
        seconds = float(weight * 1e-6 * self.random.lognormal(0.0, 0.35))
        output = self.tensor(index)
        self.ops.append(
            Op(
                index, name, parent, "forward", 1, tuple(reads), (output,), scope=scope, source=source,
                self_seconds=Measurement(seconds, 0.93 * seconds, 1.09 * seconds, 20, "s"),
                flops=weight * 1e5 if works else 0.0,
                bytes_moved=sum(self.tensors[tensor].nbytes for tensor in (*reads, output)) if works else 0,
                executes=works,
            )
        )  # fmt: skip
        if works:
            producers = dict.fromkeys((self.tensors[tensor].producer, tensor) for tensor in reads)
            self.edges += [Edge(producer, index, tensor) for producer, tensor in producers if producer >= 0]
        return output

    def call(self, name: str, scope: str, source: str, weight: float, reads: list[int]) -> int:
        """Add what the program calls, with the ops inside it; return the tensor that it gives back."""
        inner = _INNER.get(name, ())
        if not inner:
            return self.op(name, scope, source, weight, reads, -1, True)
        top = len(self.ops)
        result = self.op(name, scope, source, 0.3, reads, -1, False)
        for position, called in enumerate(inner):
            last = position == len(inner) - 1
            result = self.op(called, scope, source, weight if last else 0.2, reads, top, True)
        return result


def synthetic_run(ops: int, seed: int = 0, blocks_a_stage: int = 12) -> Run:
    """Return a run of at least `ops` ops: stages of transformer-like blocks with residual and long edges."""
    build = _Build(np.random.default_rng(seed), [], [], [])
    residual = build.tensor(-1, "input")
    block, memory = 0, residual
    while len(build.ops) < ops:
        stage, place = divmod(block, blocks_a_stage)
        path = f"stages.{stage}.blocks.{place}"
        residual = _add_block(build, path, residual, memory)
        # Now and then a later stage reads an early one, as a U-net does: a long edge.
        memory = residual if place == 0 else memory
        block += 1
    return with_content_id(_run(build, f"{NAME}-{ops}"))


def _add_block(build: _Build, path: str, residual: int, memory: int) -> int:
    value = residual
    for line, (module, name, weight) in enumerate(_BLOCK):
        scope = f"{path}.{module}" if module else path
        reads = [value, residual] if name == "aten::add" else [value]
        if line == 4 and memory != residual:
            reads.append(memory)
        value = build.call(name, scope, f"synthetic.py:{10 + line}", weight, reads)
        if name == "aten::add":
            residual = value
    return value


def _run(build: _Build, name: str) -> Run:
    total = sum(op.self_seconds.median for op in build.ops if op.self_seconds is not None)
    peak = sum(tensor.nbytes for tensor in build.tensors[:1000])
    return Run(
        id="", name=name, created="2026-01-01T00:00:00+00:00",
        workload=WorkloadReference("/synthetic/synthetic.py", NAME, "0" * 64, "0" * 64),
        training=False,
        device=Device("cpu", "synthetic device", 2**34, 1,
                      Peak(1e11, "FLOP/s", NAME), Peak(1e10, "B/s", NAME)),
        environment=Environment("", "", "", "", "", NAME, NAME, ()),
        threads=1,
        step_seconds=StepTime(total, 0.97 * total, 1.04 * total, 1.1 * total, 1.2 * total, 20),
        throughput=1 / total,
        overhead=Measurement(1.0, 1.0, 1.0, 1, "x"),
        graph=Graph(tuple(build.ops), tuple(build.tensors), tuple(build.edges)).check(),
        memory=MemoryProfile(peak, {"activation": peak}, ((0.0, 0), (total, peak))),
        coverage=Coverage(1.0, 1.0, 1.0),
        busy_seconds=None, idle_seconds=None,
        notes=(NOTE,),
    )  # fmt: skip


def save_synthetic(store: Store, ops: int, seed: int = 0) -> str:
    """Save a synthetic run in the store, and return its id."""
    run = synthetic_run(ops, seed)
    summary = {
        "device": "cpu", "training": False, "step_seconds": run.step_seconds.median,
        "peak_bytes": run.memory.peak_bytes, "ops": len(run.graph.ops),
    }  # fmt: skip
    entry = store.save(
        "run", lambda folder: save_run(run, folder), name=run.name, created=run.created, summary=summary, tags=(NAME,)
    )
    return entry.id


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", required=True)
    parser.add_argument("--ops", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with open_store(options.store) as store:
        print(save_synthetic(store, options.ops, options.seed))


if __name__ == "__main__":
    main()
