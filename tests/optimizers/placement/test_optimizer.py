import dataclasses
from pathlib import Path

import pytest

from analyzer.capture import capture
from analyzer.diagnosis.diagnose import diagnose
from analyzer.errors import RecordError
from analyzer.measurement import Measurement
from analyzer.workload import load_workload
from optimizers.candidate import load_candidate, make_candidate, save_candidate
from optimizers.pipeline import launches_of, propose
from optimizers.placement import apply as carried
from optimizers.placement import optimizer as placement
from optimizers.placement.launch import baseline_entry
from optimizers.placement.observe import dynamic_shapes, names_in_order
from optimizers.placement.optimizer import PlacementOptimizer, buckets_of, view_of
from optimizers.placement.options import PlacementOptions
from optimizers.placement.plans import profile_of
from optimizers.placement.views import Split
from optimizers.plan import Applied, LaunchesItself, Plan, Refusal
from tests.optimizers.placement.training_runs import training_run

MODEL = """
import torch
from analyzer.workload import Workload, seeded

class Ragged(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = torch.nn.Linear(13, 17), torch.nn.Linear(17, 5, bias=False)
        self.norm = torch.nn.LayerNorm(17)
    def forward(self, x):
        return self.second(self.norm(self.first(x)).relu()[: 7 + int(x[0, 0] > 100)])

def training():
    model = Ragged()
    def inputs(seed):
        x = torch.randn(8 + seed, 13, generator=seeded(seed))
        return ((x,), {})
    return Workload(model=model, inputs=inputs, loss=lambda output, batch: output.square().mean(),
                    optimizer=torch.optim.SGD(model.parameters(), lr=0.1))

def own_step():
    workload = training()
    workload.step = lambda model, batch: model(*batch[0]).sum()
    return workload
"""

SETTINGS = {"bucket_megabytes": 1048 / (1 << 20), "form": "parameter-server"}


@pytest.fixture(autouse=True)
def everything_is_here(monkeypatch, tmp_path):
    monkeypatch.setenv("HOTBENCH_CACHE", str(tmp_path))
    monkeypatch.setattr("optimizers.placement.backends.unavailable", lambda name: "")
    monkeypatch.setattr(carried, "unavailable", lambda name: "")


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "ragged.py"
    path.write_text(MODEL)
    return path


def planned(run, **options):
    return PlacementOptimizer().plan(run, diagnose(run), PlacementOptions(**options))


def test_a_training_run_gets_a_speedup_against_the_baseline_its_buckets_and_other_plans():
    run = training_run((257, 513, 1025, 129))
    found = planned(run, world_size=2, baseline="grpc")
    assert isinstance(found, Plan) and found.reference == run.workload
    assert found.estimate.unit == "x" and 1.0 < found.estimate.low <= found.estimate.mid <= found.estimate.high
    assert "grpc" in found.summary and "predicted" in found.summary
    taken = [target for target in found.targets if not target.refusal]
    assert sum(len(target.ops) for target in taken) == 3
    assert all(run.graph.ops[op].name == "torch::autograd::AccumulateGrad" for target in taken for op in target.ops)
    others = {target.title: target.refusal for target in found.targets if target.refusal}
    carried_out = {title for title, words in others.items() if "Apply does not carry it out" not in words}
    assert carried_out == {"data-parallel, parameter server"} and len(others) > 3
    assert others[carried_out.pop()].endswith("Apply runs it with placement.form=parameter-server")


def test_a_form_is_predicted_with_its_own_exchange_and_the_other_one_is_among_the_plans():
    run = training_run((257, 513, 1025, 129))
    found = planned(run, form="parameter-server")
    assert "parameter-server" in found.summary and found.estimate.mid <= planned(run).estimate.mid
    titles = [target.title for target in found.targets if target.refusal]
    assert "data-parallel, all-reduce" in titles and "data-parallel, parameter server" not in titles
    assert "Apply runs it on this machine" in planned(run, cluster="h100-hosts").summary


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"world_size": 1}, "exchanges nothing"),
        ({"world_size": 64, "cluster": "two-workstations"}, "choose 1 to 8 workers"),
        ({"cluster": "atlantis"}, "no cluster 'atlantis'"),
    ],
)
def test_what_cannot_be_is_refused_in_words(options, words):
    found = planned(training_run(), **options)
    assert isinstance(found, Refusal) and words in found.reason


def test_a_run_that_does_not_train_and_a_machine_without_libucp_are_refused(monkeypatch):
    assert "does not train" in planned(dataclasses.replace(training_run(), training=False)).reason
    monkeypatch.setattr("optimizers.placement.backends.unavailable", lambda name: f"no libucp for {name}")
    assert planned(training_run()).reason == "no libucp for hotbench"


@pytest.mark.parametrize(
    "text",
    [
        "placement.form=ring",
        "placement.world_size=0",
        "placement.bucket_megabytes=-1",
        "placement.steps=1",
        "placement.baseline=mpi",
    ],
)
def test_an_option_out_of_range_is_said(text):
    from analyzer.errors import HotbenchError

    key, _, value = text.partition("=")
    with pytest.raises(HotbenchError):
        propose(training_run(), ["placement"], {key: value})


def measured(names):
    def of(seconds):
        return Measurement(seconds, seconds, seconds, 5, "s")

    return {name: Split(of(0.01), of(0.008), of(0.002), of(0.001), "posix") for name in names}


@pytest.fixture(scope="module")
def applied(model_file, tmp_path_factory):
    """Return (candidate, run) of an apply whose processes are stood in for; all else is real."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOTBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr("optimizers.placement.backends.unavailable", lambda name: "")
        return apply_once(model_file, patch)


def apply_once(model_file, monkeypatch):
    workload, reference = load_workload(f"{model_file}:training")
    run = dataclasses.replace(capture(workload, reference, steps=5, threads=1), training=True)
    asked = []
    monkeypatch.setattr(carried, "ensure_calibrated", lambda *_: None)

    def stand_in(entry, names, **choices):
        asked.append((entry, names, choices))
        return {**measured(["hotbench", "gloo"]), "grpc": "no grpcio"}

    monkeypatch.setattr(carried, "measure_backends", stand_in)
    plan = planned(run, world_size=3, bucket_megabytes=0.001, form="parameter-server")
    fresh, _ = load_workload(f"{model_file}:training")
    answer = PlacementOptimizer().apply(fresh, plan)
    assert not isinstance(answer, Refusal), answer
    assert asked[0][0] == baseline_entry(reference) and asked[0][1] == ("hotbench", "gloo", "grpc")
    assert asked[0][2]["world_size"] == 3 and asked[0][2]["settings"] == SETTINGS
    return make_candidate(run.id, reference, (answer[1],)), run


def test_apply_names_the_models_own_parameters_and_keeps_what_was_measured(applied, tmp_path):
    candidate, _ = applied
    buckets, view = buckets_of(candidate.applied[0]), view_of(candidate.applied[0])
    names = [name for bucket in buckets.buckets for name in bucket.parameters]
    assert names[0] == "second.weight" and set(names[-2:]) == {"first.weight", "first.bias"} and len(names) == 5
    assert view.backend("gloo").measured.step.median == 0.01 and view.backend("grpc").reason == "no grpcio"
    assert [name for name, _ in view.dynamic] == ["first", "norm"]
    assert candidate.applied[0].decisions["hotbench_seconds"]["transport"] == "posix"
    save_candidate(candidate, tmp_path / "candidate")
    assert load_candidate(tmp_path / "candidate") == candidate


def test_workers_build_what_another_optimizer_made_before(model_file, applied, monkeypatch):
    run, seen = applied[1], []
    monkeypatch.setattr(carried, "capture", lambda *_, **__: run)
    monkeypatch.setattr(carried, "ensure_calibrated", lambda *_: None)

    def stand_in(entry, names, **_):
        seen.append((entry[0], load_candidate(Path(entry[1]["candidate"]))))
        return measured(["hotbench", "gloo"])

    monkeypatch.setattr(carried, "measure_backends", stand_in)
    workload, reference = load_workload(f"{model_file}:training")
    plan = planned(run)
    earlier = (Applied(dataclasses.replace(plan, optimizer="fusion"), {"training": True}),)
    answer = PlacementOptimizer().apply_after(earlier, workload, plan)
    assert not isinstance(answer, Refusal) and isinstance(PlacementOptimizer(), LaunchesItself)
    ((entry, built),) = seen
    assert (
        entry == "optimizers.candidate:launch_candidate" and built.applied == earlier and built.reference == reference
    )


def test_an_experiment_compares_the_baseline_and_ours_at_the_same_world_size(applied, tmp_path):
    candidate, run = applied
    before, after = launches_of(run, candidate, tmp_path / "candidate")
    assert (before.argument["backend"], after.argument["backend"]) == ("gloo", "hotbench")
    assert before.argument["world_size"] == after.argument["world_size"] == 3
    assert after.argument["argument"] == {"candidate": str((tmp_path / "candidate").absolute())}
    assert after.argument["settings"] == SETTINGS


def test_a_step_of_ones_own_too_many_workers_and_no_reference_are_refused(model_file):
    workload, reference = load_workload(f"{model_file}:own_step")
    run = dataclasses.replace(training_run(), workload=reference)
    optimizer = PlacementOptimizer()
    assert "a step of its own" in optimizer.apply(workload, planned(run)).reason
    plain, _ = load_workload(f"{model_file}:training")
    assert "too many for" in optimizer.apply(plain, planned(run, world_size=500)).reason
    assert "names no workload" in optimizer.apply(plain, dataclasses.replace(planned(run), reference=None)).reason


def test_a_step_that_writes_other_gradients_than_the_run_is_told(model_file):
    from optimizers.placement.errors import PlacementError

    workload, _ = load_workload(f"{model_file}:training")
    with pytest.raises(PlacementError, match="the step writes 5 gradients, not the 3"):
        names_in_order(workload, profile_of(training_run()).gradients)
    workload.inputs = lambda seed: workload_inputs(8)
    assert dynamic_shapes(workload) == ()


def workload_inputs(rows):
    import torch

    return ((torch.ones(rows, 13),), {})


def test_a_candidate_without_its_plan_cannot_be_rebuilt(applied, model_file):
    candidate, _ = applied
    workload, _ = load_workload(f"{model_file}:training")
    kept = candidate.applied[0]
    assert PlacementOptimizer().rebuild(workload, kept) is workload
    for blobs in ({}, {placement.PLAN_FILE: b"{}"}):
        with pytest.raises(RecordError):
            PlacementOptimizer().rebuild(workload, dataclasses.replace(kept, blobs=blobs))
    assert view_of(dataclasses.replace(kept, blobs={})) is None
    assert Path(candidate.reference.path) == model_file
