"""A gate on answers: what is asked for holds, what is not does not, and the reason has the figures."""

import dataclasses
import json
import math

import pytest

from analyzer.closeness import GIVEN, Accuracy, AccuracyGate
from analyzer.experiment import Experiment, experiment_id, load_experiment, save_experiment
from analyzer.record import write_folder
from tests.app.values import report_candidate, report_experiment, report_run


def accuracy(**changes):
    found = Accuracy(0.1, 0.05, 0.9951, 0.97, 16, 1e-5, "float32 outputs", {"top1": 0.913}, {"top1": 0.905}, True)
    return dataclasses.replace(found, **changes)


def test_with_a_gate_the_tolerance_of_the_dtype_does_not_count():
    assert not accuracy().passed
    assert accuracy(gate=AccuracyGate(0.95, 0.99, 0.01)).passed
    assert accuracy(gate=AccuracyGate()).passed


@pytest.mark.parametrize(
    ("gate", "words"),
    [
        (AccuracyGate(min_agreement=0.971), "agreement 0.97, less than 0.971"),
        (AccuracyGate(min_cosine=0.996), "cosine 0.9951, less than 0.996"),
        (AccuracyGate(max_metric_drop=0.007), "top1 0.905, less than 0.906 (0.913 less 0.007)"),
        (AccuracyGate(0.99, 0.99, 0.01), "agreement 0.97, less than 0.99"),
    ],
)
def test_what_does_not_pass_is_named_with_its_figure_alone(gate, words):
    found = accuracy(gate=gate)
    assert not found.passed and found.reason == words


def test_what_passes_is_named_with_what_was_asked():
    found = accuracy(gate=AccuracyGate(0.97, None, 0.008))
    assert found.reason == "agreement 0.97, at least 0.97; top1 0.905, at least 0.905 (0.913 less 0.008)"


def test_an_error_that_the_caller_allows_holds_beside_the_gate():
    gate = AccuracyGate(min_cosine=0.9)
    strict = accuracy(gate=gate, tolerance=0.04, tolerance_reason=GIVEN)
    assert not strict.passed and "beyond 0.04" in strict.reason
    assert dataclasses.replace(strict, tolerance=0.06).passed


@pytest.mark.parametrize(
    "changes",
    [
        {"cosine": math.nan},
        {"metric_after": {}},
        {"metric_after": {"top1": math.nan}},
        {"mismatch": "another shape"},
        {"special_values_match": False},
    ],
)
def test_what_was_not_measured_or_is_no_number_does_not_pass(changes):
    assert not accuracy(gate=AccuracyGate(0.9, 0.9, 0.5), **changes).passed


def test_answers_without_an_arg_max_are_not_asked_for_agreement():
    assert accuracy(agreement=None, gate=AccuracyGate(min_agreement=1.0)).passed


def test_an_experiment_with_a_gate_is_read_back_and_one_saved_before_there_were_gates_too(tmp_path):
    run = report_run()
    made = report_experiment(run, report_candidate(run))
    gated = dataclasses.replace(made, id="", accuracy=accuracy(gate=AccuracyGate(0.9, None, 0.1)))
    gated = dataclasses.replace(gated, id=experiment_id(gated))
    save_experiment(gated, tmp_path / "gated")
    assert load_experiment(tmp_path / "gated") == gated
    data = json.loads((tmp_path / "gated" / "experiment.json").read_bytes())
    del data["accuracy"]["gate"]
    older = _with_id(data)
    write_folder(tmp_path / "older", {"experiment.json": json.dumps(older).encode()}, "experiment", older["id"])
    found = load_experiment(tmp_path / "older")
    assert isinstance(found, Experiment) and found.accuracy.gate is None and found.id == older["id"]


def _with_id(data):
    from analyzer.identity import content_id

    return {**data, "id": content_id("experiment", {**data, "id": ""})}
