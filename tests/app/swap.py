"""A swap made by hand: what a fit leaves in a candidate, and a captured training step, without training anything."""

import dataclasses
import random
from types import SimpleNamespace

from analyzer.experiment import experiment_id
from analyzer.measurement import Estimate
from analyzer.run import MemoryProfile
from app import workbench
from optimizers.candidate import make_candidate, save_candidate
from optimizers.plan import Applied, Plan
from optimizers.swap.moves import Tier
from optimizers.swap.plan import SwapPlan, plan, smallest_budget
from optimizers.swap.views import view_of
from tests.optimizers.swap.timelines import training_step
from tests.synthetic import Call, make_run

DISK = Tier("disk", 2e9, 3e9, 1e-5)
ALLOW = ("swap", "recompute")


def swap_view(seed=0, tensors=23, state=3, measured=True):
    timeline = training_step(random.Random(seed), tensors, state, recipes=True)
    least = smallest_budget(timeline, (DISK,), ALLOW)
    budget = (least + timeline.peak_bytes) // 2
    found = plan(timeline, budget, (DISK,), ALLOW)
    assert isinstance(found, SwapPlan)
    return view_of(
        SimpleNamespace(
            traced=SimpleNamespace(timeline=timeline),
            plan=found,
            report=SimpleNamespace(budget_bytes=budget),
            measured_bytes=found.simulation.event_bytes if measured else (),
            tiers=(DISK,),
            allow=ALLOW,
        )
    )


def decisions(view):
    measurement = {"median": 0.012, "low": 0.011, "high": 0.013, "samples": 9, "unit": "s", "interval": "quartiles"}
    return {
        "budget_bytes": view.budget_bytes,
        "peak_bytes_before": max(view.before.total_bytes),
        "peak_bytes_predicted": max(view.predicted.total_bytes),
        "peak_bytes_measured": max(view.measured_bytes, default=0),
        "step_seconds_before": measurement,
        "step_seconds_after": {**measurement, "median": 0.0234},
        "step_seconds_predicted": {"low": 0.01, "mid": 0.0229, "high": 0.03, "unit": "s", "basis": "simulated"},
    }


def training_run(layers=9, elements=64_001):
    """Return a run whose forward makes an activation an op, each read again in the backward, in reverse."""
    forward = [Call("aten::gelu", seconds=2e-3, reads=(k - 1,) if k else (), elements=elements) for k in range(layers)]
    backward = [
        Call(
            "aten::gelu_backward",
            seconds=3e-3,
            reads=(layers + k - 1, layers - 1 - k),
            elements=elements,
            phase="backward",
        )
        for k in range(layers)
    ]
    run = make_run([*forward, *backward], training=True, step_seconds=0.06)
    tensors = tuple(
        dataclasses.replace(tensor, category="activation" if 0 <= tensor.producer < layers else tensor.category)
        for tensor in run.graph.tensors
    )
    memory = MemoryProfile((layers + 4) * 4 * elements, {"activation": layers * 4 * elements}, ())
    return dataclasses.replace(run, graph=dataclasses.replace(run.graph, tensors=tensors), memory=memory)


def save_swap(store, run, drawn, view, blobs=None):
    """Save a candidate that keeps a budget, with an experiment like `drawn`; return the experiment's id."""
    chosen = Plan(
        "plan-000000000007", run.id, "swap", {"budget": "60%"}, (), Estimate(0, 1, 2, "bytes", "simulated"), "swaps"
    )
    files = {"swap_view.json": view.encode()} if blobs is None else blobs
    candidate = make_candidate(run.id, run.workload, (Applied(chosen, decisions(view), files),))
    store.save(
        "candidate",
        lambda folder: save_candidate(candidate, folder),
        name="swapped",
        parent=run.id,
        created=run.created,
        summary={"optimizers": ["swap"]},
    )
    value = dataclasses.replace(drawn, id="", parent=candidate.id)
    value = dataclasses.replace(value, id=experiment_id(value))
    workbench._save_experiment(store, value, "swapped")
    return value.id
