"""A placement made by hand: the outlook of a synthetic run with measured splits, in a store."""

import dataclasses

from analyzer.experiment import experiment_id
from analyzer.measurement import Estimate, Measurement
from app import workbench
from optimizers.candidate import make_candidate, save_candidate
from optimizers.placement.costs import Costs
from optimizers.placement.outlook import look_ahead
from optimizers.placement.plans import profile_of
from optimizers.placement.this_machine import this_machine
from optimizers.placement.views import Split
from optimizers.plan import Applied, Plan
from tests.optimizers.placement.training_runs import training_run

WIDTHS = (513, 1025, 2049, 257)


def measured(seconds, transport):
    def over(share):
        return Measurement(seconds * share, 0.9 * seconds * share, 1.1 * seconds * share, 15, "s")

    return Split(over(1.0), over(0.7), over(0.3), over(0.1), transport)


def placement_view(world_size=2):
    """Return what a page shows of a placement: two backends measured, one that could not run."""
    view = look_ahead(profile_of(training_run(WIDTHS)), world_size, this_machine(world_size), costs=Costs())
    splits = {"hotbench": measured(0.0653, "posix"), "gloo": measured(0.0787, "gloo over tcp")}
    backends = tuple(
        dataclasses.replace(item, measured=splits[item.name]) if item.name in splits
        else dataclasses.replace(item, reason="grpcio not installed; pip install grpcio")
        for item in view.backends
    )  # fmt: skip
    return dataclasses.replace(view, backends=backends, dynamic=(("layers.1", "8x65 and 8x33 <b>"),))


def save_placement(store, run, drawn, view, content=None):
    """Save a candidate that trains on several workers, with an experiment like `drawn`; return the experiment's id."""
    chosen = Plan(
        "plan-000000000008", run.id, "placement", {"world_size": 2}, (), Estimate(1, 1.1, 2, "x", "simulated"), "two"
    )
    blobs = {"placement_view.json": view.encode() if content is None else content}
    candidate = make_candidate(run.id, run.workload, (Applied(chosen, {"world_size": 2}, blobs),))
    store.save(
        "candidate",
        lambda folder: save_candidate(candidate, folder),
        name="placed",
        parent=run.id,
        created=run.created,
        summary={"optimizers": ["placement"]},
    )
    value = dataclasses.replace(drawn, id="", parent=candidate.id)
    value = dataclasses.replace(value, id=experiment_id(value))
    workbench._save_experiment(store, value, "placed")
    return value.id
