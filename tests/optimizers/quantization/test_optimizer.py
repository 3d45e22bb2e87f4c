"""The quantization optimizer on a small model: plan, apply, repeat, refuse."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from analyzer.capture import capture
from analyzer.closeness import AccuracyGate
from analyzer.diagnosis.diagnose import diagnose
from analyzer.errors import RecordError
from analyzer.peak import state_bytes, stored_bytes
from analyzer.workload import load_workload
from optimizers.candidate import load_candidate, make_candidate, rebuild_candidate, save_candidate
from optimizers.pipeline import gate_of
from optimizers.plan import Applied, Plan, Refusal
from optimizers.quantization import bench as bench_module
from optimizers.quantization.carry_out import VIEW_FILE
from optimizers.quantization.modules.low_rank import LowRankLinear
from optimizers.quantization.optimizer import QuantizationOptimizer
from optimizers.quantization.options import QuantizationOptions
from optimizers.quantization.targets import targets
from optimizers.quantization.views import decode_view
from tests.synthetic import Call, make_run

FILE = Path(__file__).with_name("small.py")
OPTIMIZER = QuantizationOptimizer()


def loaded(function="tagger"):
    return load_workload(f"{FILE}:{function}")


@pytest.fixture(scope="module")
def run():
    return capture(*loaded(), threads=1)


@pytest.fixture(scope="module", autouse=True)
def quick():
    """Time little: what is tested is not how quick the layers are."""
    patch = pytest.MonkeyPatch()
    patch.setattr(bench_module, "LAYER_SECONDS", 1e-4)
    patch.setattr(bench_module, "STEP_SECONDS", 1e-4)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    patch.undo()


def planned(run, **options):
    return OPTIMIZER.plan(run, diagnose(run), QuantizationOptions(**options))


@pytest.fixture(scope="module")
def done(run):
    """Return the plan, the compressed workload and what was decided, for size: which does not depend on timings."""
    plan = planned(run, goal="size", exclude="head", min_cosine=0.98)
    workload, applied = OPTIMIZER.apply(loaded()[0], plan)
    return plan, workload, applied


def answers(workload, seed=5):
    args, kwargs = workload.batch(seed)
    with torch.no_grad():
        return workload.model(*args, **kwargs)


def test_a_plan_names_each_layer_with_its_bytes_and_what_stays_with_the_reason(run):
    plan = planned(run, exclude="head", layers="mix=8")
    titles = {target.title.split(" ")[0].rstrip(":"): target for target in plan.targets}
    assert list(titles) == ["embed", "mix", "again", "out", "head"]
    assert "int8 to kmeans-4" in titles["embed"].title and titles["mix"].title.endswith(", int8")
    assert "24.4 KiB become" in titles["mix"].title and "the weights of again" in titles["out"].title
    assert titles["head"].refusal == "it is not among the layers to compress"
    assert plan.estimate.unit == "x" and plan.estimate.low <= plan.estimate.mid <= plan.estimate.high
    assert plan.options["layers"] == "mix=8" and "4 layers" in plan.summary


def test_a_plan_takes_the_layers_that_apply_takes_places_in_a_buffer_are_no_weights():
    workload, reference = loaded("encoder")
    plan = planned(capture(workload, reference, threads=1))
    taken = {target.title.split(" ")[0].rstrip(":") for target in plan.targets if not target.refusal}
    able = {target.name for target in targets(workload.model) if not target.refusal}
    assert taken == able and "place" in able
    assert not any("int64" in target.refusal for target in plan.targets)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"include": "encoder.*"}, "no layer of the run is called 'encoder.*'; its layers are: embed, mix"),
        ({"layers": "mix=8, tail=4"}, "no layer of the run is called 'tail'"),
        ({"exclude": "*"}, "no layer is left to compress"),
    ],
)
def test_a_plan_that_touches_nothing_is_refused_in_words(run, options, words):
    answer = planned(run, **options)
    assert isinstance(answer, Refusal) and words in answer.reason and "\n" not in answer.reason


def test_training_other_devices_and_runs_without_weights_are_refused(run):
    on_gpu = dataclasses.replace(run, device=dataclasses.replace(run.device, kind="cuda"))
    assert "compresses for the CPU" in planned(on_gpu).reason
    assert "the step trains" in planned(dataclasses.replace(run, training=True)).reason
    assert "reads no weights" in planned(make_run([Call("aten::add", 1e-5)])).reason


def test_the_compressed_model_is_smaller_within_the_gate_and_tied_weights_stay_one(done):
    _, workload, applied = done
    decided = applied.decisions
    layers = {item["layer"]: item for item in decided["layers"]}
    assert set(layers) == {"embed", "mix", "again"} and all(item["form"] != "float" for item in layers.values())
    assert decided["bytes_after"] < 0.3 * decided["bytes_before"] and decided["cosine"] >= 0.98
    assert {item["layer"] for item in decided["left"]} == {"out", "head"}
    before, after = answers(loaded()[0]), answers(workload)
    assert not torch.equal(before, after)
    assert torch.nn.functional.cosine_similarity(before.flatten(), after.flatten(), dim=0) > 0.98
    assert type(workload.model.out) is type(workload.model.again) is not torch.nn.Linear
    assert isinstance(workload.model.head, torch.nn.Linear)


def test_the_view_has_every_form_every_mix_and_the_weights(done):
    view = decode_view(done[2].blobs[VIEW_FILE])
    again = next(layer for layer in view.layers if layer.name == "again")
    assert [form.name for form in again.forms] == ["float", "int8", "kmeans-4"]
    assert sum(again.histograms[0].counts) == 130 * 130 and again.histograms[0].parameter == "again.weight"
    assert len(again.histograms[0].centroids) == (16 if again.chosen == "kmeans-4" else 0)
    assert sum(point.chosen for point in view.points) == 1 and view.gate["min_cosine"] == 0.98
    assert {layer.name for layer in view.layers if layer.refusal} == {"out", "head"}


def test_a_candidate_is_repeated_to_the_bit_in_a_fresh_process(done, tmp_path):
    _, workload, applied = done
    candidate = make_candidate("run-000000000001", loaded()[1], (applied,))
    save_candidate(candidate, tmp_path / "candidate")
    code = (
        "import json, sys, torch\nfrom pathlib import Path\nfrom optimizers.candidate import load_candidate, "
        "rebuild_candidate\ntorch.set_num_threads(1)\nmade = rebuild_candidate(load_candidate(Path(sys.argv[1])))\n"
        "args, kwargs = made.batch(5)\nprint(json.dumps(made.model(*args, **kwargs).flatten().tolist()))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "candidate")]
    output = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path.cwd()).stdout
    assert json.loads(output.splitlines()[-1]) == answers(workload).flatten().tolist()
    assert load_candidate(tmp_path / "candidate") == candidate


def test_weights_that_are_not_those_measured_are_refused(done):
    plan, _, applied = done
    files = {name: bytes([*content[:-1], content[-1] ^ 1]) if name == "weights.safetensors" else content
             for name, content in applied.blobs.items()}  # fmt: skip
    with pytest.raises(RecordError, match="not those that were measured"):
        OPTIMIZER.rebuild(loaded()[0], Applied(plan, applied.decisions, files))


def test_a_workload_of_another_shape_is_refused_when_a_candidate_is_repeated(done):
    other = loaded()[0]
    other.model.mix = torch.nn.Linear(48, 131)
    with pytest.raises(RecordError, match="do not fit the model"):
        OPTIMIZER.rebuild(other, done[2])


def test_the_experiment_is_judged_by_the_gate_of_the_options(done):
    candidate = make_candidate("run-000000000001", loaded()[1], (done[2],))
    assert gate_of(candidate) == AccuracyGate(0.95, 0.98, 0.01)
    rebuild_candidate(candidate)


def test_bits_that_break_the_gate_are_refused_with_the_figures(run):
    plan = planned(run, layers="*=1", fit="plain", min_cosine=0.9999)
    answer = OPTIMIZER.apply(loaded()[0], plan)
    assert isinstance(answer, Refusal)
    assert "no mix passes the gate" in answer.reason and "cosine 0." in answer.reason and "\n" not in answer.reason


@pytest.fixture(scope="module")
def degrees(run):
    """Return the workload and what was decided where pruning and thin matrices are tried as well."""
    plan = planned(run, goal="size", prune=0.4, low_rank=0.2, fit="diagonal", min_cosine=0.9, min_agreement=None,
                   max_metric_drop=None)  # fmt: skip
    assert "low-rank" not in plan.targets[0].title and "kmeans-4-pruned-0.4" in plan.targets[0].title
    return OPTIMIZER.apply(loaded()[0], plan)


def test_pruned_and_thin_forms_are_measured_like_the_others(degrees):
    view = decode_view(degrees[1].blobs[VIEW_FILE])
    forms = {layer.name: {form.name: form for form in layer.forms} for layer in view.layers}
    assert set(forms["mix"]) == {
        "float", "int8", "prune-0.4", "low-rank-0.2", "kmeans-4", "kmeans-4-pruned-0.4"
    }  # fmt: skip
    assert "low-rank-0.2" not in forms["embed"] and "prune-0.4" in forms["embed"]
    for form in forms["again"].values():
        assert form.refusal or (form.bytes <= 130 * 130 * 4 and (form.error > 0) == (form.name != "float"))
    # Huffman codes count: zeros take less than the codes' bits
    assert forms["again"]["kmeans-4-pruned-0.4"].bytes < 0.9 * forms["again"]["kmeans-4"].bytes


def test_coded_weights_are_counted_as_they_lie_in_the_file_and_come_back(degrees):
    workload, applied = degrees
    assert applied.decisions["coding"] == "huffman" == json.loads(applied.blobs["recipe.json"])["recipe"]["coding"]
    written = len(applied.blobs["weights.safetensors"])
    assert abs(written - applied.decisions["bytes_after"]) < 4096 < written
    repeated = OPTIMIZER.rebuild(loaded()[0], applied)
    assert torch.equal(answers(repeated), answers(workload))
    assert stored_bytes(repeated.model) == stored_bytes(workload.model) < 0.2 * state_bytes(loaded()[0].model)


@pytest.mark.parametrize(("choice", "kind"), [("prune", torch.nn.Linear), ("low-rank", LowRankLinear)])
def test_a_layer_that_is_given_a_method_has_it(run, choice, kind):
    plan = planned(run, layers=f"mix={choice}, again=8", include="mix, again", goal="size", prune=0.7, low_rank=0.2,
                   min_cosine=0.2, min_agreement=None, max_metric_drop=None)  # fmt: skip
    workload, applied = OPTIMIZER.apply(loaded()[0], plan)
    chosen = {item["layer"]: item["form"] for item in applied.decisions["layers"]}
    assert chosen == {"mix": {"prune": "prune-0.7", "low-rank": "low-rank-0.2"}[choice], "again": "int8"}
    assert type(workload.model.mix) is kind
    if choice == "prune":
        assert abs((workload.model.mix.weight == 0).float().mean() - 0.7) < 0.02
    assert torch.equal(answers(OPTIMIZER.rebuild(loaded()[0], applied)), answers(workload))


def test_tuned_centroids_come_with_the_candidate(run):
    plan = planned(run, method="kmeans", bits=2, fit="plain", goal="size", include="mix", finetune_steps=3,
                   min_cosine=0.5, min_agreement=None, max_metric_drop=None)  # fmt: skip
    workload, applied = OPTIMIZER.apply(loaded()[0], plan)
    mixes = [item["mix"] for item in applied.decisions["mixes"]]
    assert any("tuned for 3 steps" in name for name in mixes)
    repeated = OPTIMIZER.rebuild(loaded()[0], applied)
    assert torch.equal(answers(repeated), answers(workload))


@pytest.mark.parametrize(
    ("function", "words"),
    [("training", "the step trains"), ("own_step", "runs its own step"), ("not_a_number", "NaN or infinity")],
)
def test_workloads_that_cannot_be_compared_are_refused_in_one_line(run, function, words):
    plan = planned(run)
    assert isinstance(plan, Plan)
    answer = OPTIMIZER.apply(loaded(function)[0], plan)
    assert isinstance(answer, Refusal) and words in answer.reason and "\n" not in answer.reason


def test_a_model_that_cannot_be_copied_is_refused_in_words(run):
    workload = loaded()[0]
    workload.model.lock = (item for item in ())
    answer = OPTIMIZER.apply(workload, planned(run))
    assert isinstance(answer, Refusal) and "the model cannot be copied" in answer.reason
