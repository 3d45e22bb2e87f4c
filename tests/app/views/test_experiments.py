"""What is shown of an experiment: the prediction beside the measurement, and what may be kept."""

import dataclasses

import pytest

from analyzer.accuracy import Accuracy
from analyzer.measurement import Estimate, Measurement
from analyzer.trial import failed_trial
from analyzer.verdict import NOT_MEASURED
from app.reports.experiment_document import experiment_document
from app.reports.render import render_html, render_markdown
from app.reports.write import proof_figures
from app.store import Entry
from app.views.experiments import experiment_rows, explain, keep_words, proof_view
from tests.app.values import report_candidate, report_experiment, report_run

RUN = report_run()
CANDIDATE = report_candidate(RUN)
EXPERIMENT = report_experiment(RUN, CANDIDATE)


def failed():
    found = failed_trial("refused: the variant died of signal 11")
    return dataclasses.replace(
        EXPERIMENT,
        before_seconds=(),
        after_seconds=(),
        again_seconds=(),
        speedup=NOT_MEASURED,
        noise_floor=NOT_MEASURED,
        memory_ratio=found.memory_ratio,
        peak_bytes_before=None,
        peak_bytes_after=None,
        size_ratio=found.size_ratio,
        accuracy=found.accuracy,
        verdicts={"time": "unknown", "memory": "unknown", "size": "unknown", "accuracy": "failed"},
        verdict="refused",
        reason="refused: the variant died of signal 11",
    )


def measured(value):
    return Measurement(value, value, value, 40, "x", "bootstrap-95")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (2.0, "lies within the predicted 1.40× to 2.60×: the middle of the prediction, 2.10×, is 5.0 % too high"),
        (1.2, "lies below the predicted 1.40× to 2.60×: the middle of the prediction, 2.10×, is 75.0 % too high"),
        (4.2, "lies above the predicted 1.40× to 2.60×: the middle of the prediction, 2.10×, is 50.0 % too low"),
    ],
)
def test_the_prediction_is_set_beside_the_measurement_in_words(value, words):
    predicted = Estimate(1.4, 2.1, 2.6, "x", "roofline times")
    sentences = explain(predicted, measured(value), ())
    assert words in sentences[0] and sentences[1] == "Predicted from: roofline times."


def test_what_was_decided_while_applying_explains_a_difference():
    decided = dataclasses.replace(
        CANDIDATE.applied[0],
        decisions={
            "choices": [
                {"kept": True, "calls": 3, "first_seconds": 2e-4, "second_seconds": 1e-5},
                {"kept": False, "calls": 9, "first_seconds": 1.0, "second_seconds": 2.0},
            ],
            "eager_over_fused": {"ratio": 2.2},
        },
    )
    text = " ".join(explain(Estimate(1.4, 2.1, 2.6, "x", "b"), measured(2.2), (decided,)))
    assert "1 of 2 kernels" in text and "1 went back to the library" in text
    assert "the kept kernels take 0.0300 ms a step where the ops that they replace took 0.600 ms" in text
    assert "2.20×" in text


def test_decisions_of_another_shape_explain_nothing_and_break_nothing():
    odd = dataclasses.replace(CANDIDATE.applied[0], decisions={"choices": ["a", 1], "eager_over_fused": "much"})
    assert len(explain(Estimate(1.4, 2.1, 2.6, "x", "b"), measured(2.2), (odd,))) == 2


def test_a_proof_has_its_figures_with_units_and_its_tolerance():
    view = proof_view(EXPERIMENT, CANDIDATE)
    facts = {label: (value, detail) for label, value, detail in view.facts}
    assert facts["Speedup"] == ("2.29×", "95 % interval 2.25× to 2.33×")
    assert facts["Peak memory"][0] == "91.0 %" and "allowed 1e-05" in facts["Largest relative error"][1]
    assert view.headline == "2.29× faster: a step takes 0.831 ms instead of 1.90 ms" and view.proven


def test_a_comparison_of_two_runs_predicts_nothing():
    view = proof_view(EXPERIMENT, None)
    assert view.predicted is None and view.explanation == ()


def test_a_candidate_that_died_shows_no_figure_that_was_not_measured():
    view = proof_view(failed(), CANDIDATE)
    assert not view.measured and view.facts == () and view.headline == "It did not run"
    assert "nan" not in " ".join(view.explanation)


def test_the_report_of_a_candidate_that_died_says_so_without_a_figure():
    document = experiment_document(failed(), CANDIDATE, RUN)
    assert proof_figures(failed(), CANDIDATE) == {}
    for text in (render_markdown(document), render_html(document, {}, "")):
        assert "the variant died of signal 11" in text and "nan" not in text


def test_an_experiment_whose_outputs_cannot_be_compared_says_why():
    accuracy = Accuracy(
        float("inf"), float("inf"), 0.0, None, 0, 0.0, "no outputs", {}, {}, False, "out/0 has shape (3,)"
    )
    document = experiment_document(dataclasses.replace(EXPERIMENT, accuracy=accuracy), CANDIDATE, RUN)
    assert next(section for section in document.sections if section.id == "accuracy").text == "out/0 has shape (3,)"


@pytest.mark.parametrize(
    ("verdict", "words"),
    [("slower", "slower"), ("inconclusive", "noise"), ("refused", "answers differ too much")],
)
def test_what_proved_nothing_says_why_it_is_not_kept(verdict, words):
    text = keep_words(False, verdict, False)
    assert words in text and "Only what is proven" in text


def test_an_undone_mark_names_who_undid_it():
    assert keep_words(True, "faster", False, "bob").startswith("Not kept (bob undid it)")


def test_rows_tell_candidates_and_comparisons_apart():
    entries = (
        Entry("run-1", "run", None, "m", "2026", "0"),
        Entry("candidate-1", "candidate", "run-1", "c", "2026", "0", {"optimizers": ["fusion"]}),
        Entry("experiment-1", "experiment", "candidate-1", "c", "2026", "0", {"verdict": "faster"}),
        Entry("experiment-2", "experiment", "run-1", "a against b", "2026", "0", {"verdict": "slower"}),
    )
    first, second = experiment_rows(entries, {"experiment-1": measured(2.0), "experiment-2": NOT_MEASURED})
    assert (first.optimizers, first.run, first.speedup) == ("fusion", "run-1", 2.0)
    assert (second.optimizers, second.run, second.speedup) == ("comparison of two runs", "run-1", None)
