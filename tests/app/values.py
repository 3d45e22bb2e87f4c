"""A run, a diagnosis, a candidate and an experiment made by hand, with awkward names, for stores and reports."""

from __future__ import annotations

import dataclasses
import math

from analyzer.diagnosis.finding import Diagnosis, Finding
from analyzer.experiment import Accuracy, Experiment, Launch
from analyzer.measurement import Estimate, Measurement
from analyzer.run import MemoryProfile, Run
from optimizers.plan import Applied, Candidate, Plan, Target
from tests.synthetic import Call, make_run

HOSTILE = "</script><script>alert(1)</script>|`*[x](javascript:alert(1))\x1b[31m"
"""A name as an attacker would choose it: it must be shown, and do nothing."""


def report_run() -> Run:
    """Return a run of 60 ops in nested modules, with memory over time."""
    names = ("aten::addmm", "aten::mul", "aten::sigmoid", "aten::tanh", "aten::add")
    calls = [
        Call(
            names[index % 5],
            seconds=(80e-6, 6e-6, 9e-6, 8e-6, 5e-6)[index % 5] * (1 + index % 3 / 10),
            reads=(index - 1,) if index else (),
            elements=129,
            flops=131072.0 if index % 5 == 0 else 129.0,
            scope=f"encoder.layers.{index // 20}.{'attention' if index % 2 else 'feed_forward'}" if index > 3 else "",
        )
        for index in range(60)
    ]
    calls.append(Call(HOSTILE, seconds=2e-6, reads=(59,), scope=HOSTILE))
    run = make_run(calls, step_seconds=1.9e-3)
    timeline = tuple(
        (index * 1.9e-5, int(2_400_000 + 900_000 * math.sin(index / 9) + 9_000 * index)) for index in range(100)
    )
    at_peak = {"parameter": 1_572_864, "activation": 1_048_576, "temporary": 700_001, "input": 66_048, "unknown": 4096}
    memory = MemoryProfile(sum(at_peak.values()), at_peak, timeline)
    return dataclasses.replace(
        run, memory=memory, notes=("no CUDA device: timings are of the CPU", f"a note with {HOSTILE}")
    )


def report_diagnosis(run: Run) -> Diagnosis:
    """Return two findings of that run, one with an optimizer that answers it."""
    first = Finding(
        id="dispatch-bound:4",
        rule="dispatch-bound",
        title="48 small ops in a row in forward spend 71 % of their time on dispatch, not on work",
        evidence={"ops": 48, "self_seconds": 4.1e-4, "share_of_step": 0.216, "bytes_moved": 51_600, "phase": "forward"},
        ops=tuple(range(4, 52)),
        estimate=Estimate(1.4e-4, 2.3e-4, 2.9e-4, "s", "measured self times less roofline times"),
        optimizer="fusion",
    )
    second = Finding(
        id="memory-bound:9",
        rule="memory-bound",
        title=f"{HOSTILE} moves 12 bytes for each FLOP",
        evidence={"intensity": 0.083, "first_source": "model.py:9"},
        ops=(9,),
        estimate=Estimate(1e-5, 2e-5, 3e-5, "s", "roofline"),
        optimizer="",
    )
    return Diagnosis("diagnosis-000000000001", run.id, (first, second))


def report_ops() -> list[dict[str, object]]:
    """Return hot ops as `show` gives them."""
    rows = [
        ("aten::addmm", 12, 1.02e-3, 0.5368, 1.57e6, 396_288),
        ("aten::sigmoid", 12, 1.19e-4, 0.0626, 1548.0, 12_384),
        ("aten::tanh", 12, 1.05e-4, 0.0553, 1548.0, 12_384),
        (HOSTILE, 1, 2.0e-6, 0.0011, 0.0, 0),
    ]
    keys = ("name", "count", "self_seconds", "share", "flops", "bytes")
    return [dict(zip(keys, row, strict=True)) for row in rows]


def _compared(first_seconds: float, second_seconds: float) -> dict[str, float | int]:
    """Return what fusion keeps of two ways that it timed against each other."""
    ratio = first_seconds / second_seconds
    return {
        "first_seconds": first_seconds,
        "second_seconds": second_seconds,
        "ratio": ratio,
        "low": 0.9 * ratio,
        "high": 1.1 * ratio,
        "rounds": 61,
    }


def report_candidate(run: Run) -> Candidate:
    """Return a candidate of fusion with one target left alone."""
    plan = Plan(
        id="plan-000000000001",
        parent=run.id,
        optimizer="fusion",
        options={"max_error": None, "min_gain": 0.05},
        targets=(
            Target("48 pointwise ops of the cell", tuple(range(4, 52)), Estimate(1.4, 2.1, 2.6, "x", "roofline")),
            Target("aten::addmm", (0,), None, "one library call already"),
        ),
        estimate=Estimate(1.4, 2.1, 2.6, "x", "measured self times less roofline times"),
        summary="48 of 61 ops become 2 kernels; the loop over 3 layers is re-rolled.",
    )
    decisions = {
        "kernels": ["fused_0", "fused_1"],
        "chosen": {"fused_0": "fused", "fused_1": "library"},
        "choices": [
            {
                "kernel": "fused_0",
                "nodes": ["add", "add_1", "tanh"],
                "calls": 48,
                "kept": True,
                **_compared(2e-5, 4e-7),
            },
            {"kernel": "fused_1", "nodes": ["new_zeros"], "calls": 1, "kept": False, **_compared(4e-6, 5e-6)},
        ],
        "eager_over_fused": _compared(1.9e-3, 9e-4),
        "arena_bytes": 4224,
    }
    return Candidate("candidate-000000000001", run.id, run.workload, (Applied(plan, decisions, {"source": b"x"}),))


def report_experiment(run: Run, candidate: Candidate) -> Experiment:
    """Return an experiment with a clear gain."""
    before = tuple(1.9e-3 * (1 + 0.02 * math.sin(index * 1.7)) for index in range(40))
    after = tuple(8.3e-4 * (1 + 0.03 * math.cos(index * 2.3)) for index in range(40))
    again = tuple(1.905e-3 * (1 + 0.02 * math.cos(index * 0.9)) for index in range(40))
    return Experiment(
        id="experiment-000000000001",
        parent=candidate.id,
        baseline=Launch("baseline", "analyzer.variant:rebuild_baseline", run.workload.as_dict(), 1),
        candidate=Launch("fusion", "optimizers.candidate:launch_candidate", {"candidate": "/store/candidate"}, 1),
        before_seconds=before,
        after_seconds=after,
        again_seconds=again,
        speedup=Measurement(2.289, 2.25, 2.33, 40, "x", "bootstrap-95"),
        noise_floor=Measurement(0.998, 0.985, 1.011, 40, "x", "bootstrap-95"),
        memory_ratio=0.91,
        peak_bytes_before=3_391_585,
        peak_bytes_after=3_086_342,
        size_ratio=1.0,
        accuracy=Accuracy(
            3.1e-7, 8.4e-7, 0.9999999999, 1.0, 3, 1e-5, "float32 outputs", {"top1": 0.913}, {"top1": 0.913}, True
        ),
        verdicts={"time": "faster", "memory": "smaller", "size": "equal", "accuracy": "equal"},
        verdict="faster",
        reason="2.29× (2.25× to 2.33×) lies outside the noise floor (0.985× to 1.01×); answers agree within 1e-05",
        interleaved=True,
        environment=run.environment,
        created="2026-01-02T03:05:06+00:00",
        notes=("the clock speed is not readable on this machine",),
    )
