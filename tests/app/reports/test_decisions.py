"""Decisions are told in words and units; the command that repeats an experiment is one that the command line takes."""

import argparse
import dataclasses
import shlex

import pytest

from app.commands import optimize
from app.reports.decisions import decision_tables, decision_text
from app.reports.experiment_document import experiment_document
from optimizers.settings import parse_settings, read_options
from tests.app.values import report_candidate, report_experiment, report_run

RUN = report_run()
CANDIDATE = report_candidate(RUN)
EXPERIMENT = report_experiment(RUN, CANDIDATE)


def table(caption):
    found = decision_tables(CANDIDATE.applied[0].decisions)
    return next(item for item in found if item.caption.startswith(caption))


def test_a_kernel_has_its_times_in_one_unit_and_its_ratio_with_an_interval():
    kernels = table("Kernels")
    row = dict(zip(kernels.columns, kernels.rows[0], strict=True))
    assert row == {
        "kernel": "fused_0", "ops": "add ×2, tanh", "calls": "48", "kept": "yes", "ATen, ms": "0.0200",
        "kernel, ms": "0.000400", "ratio": "50.0×",
        "95 % interval": "45.0× to 55.0×",
    }  # fmt: skip
    assert kernels.caption.endswith("in 61 rounds")


def test_the_whole_step_says_which_side_took_what():
    words = dict(table("Decisions").rows)["whole step, eager over fused"]
    assert words == "eager 1.90 ms, fused 0.900 ms: 2.11× (95 % interval 1.90× to 2.32×, 61 rounds)"


def test_a_record_of_another_shape_is_told_as_it_is():
    assert decision_text("odd", {"first_seconds": 1e-3, "ratio": "much"}) == "first time 1.00 ms, ratio much"
    rows = [{"name": "a", "low": 1}, {"name": "b", "low": 2}]
    assert decision_tables({"rows": rows})[0].columns == ("name", "low")


def repeated(options, tolerance_reason="float32 outputs"):
    """Return (what the command line's parser, the options) read from the printed command."""
    plan = dataclasses.replace(CANDIDATE.applied[0].plan, options=options)
    candidate = dataclasses.replace(CANDIDATE, applied=(dataclasses.replace(CANDIDATE.applied[0], plan=plan),))
    accuracy = dataclasses.replace(EXPERIMENT.accuracy, tolerance=3e-4, tolerance_reason=tolerance_reason)
    document = experiment_document(dataclasses.replace(EXPERIMENT, accuracy=accuracy), candidate, RUN)
    command = next(text for text in document.sections[-1].commands if text.startswith("hotbench optimize"))
    parser = argparse.ArgumentParser()
    optimize.configure(parser)
    given = parser.parse_args(shlex.split(command)[2:])
    names = given.names.split(",") if isinstance(given.names, str) else given.names
    return given, read_options(names, parse_settings(given.settings or []))["fusion"], command


@pytest.mark.parametrize(
    "options",
    [
        {"max_error": None, "min_gain": 0.0},
        {"max_error": None, "min_gain": 0.05},
        {"max_error": 1e-7, "min_gain": -1.5},
    ],
)
def test_the_printed_command_asks_for_the_options_that_were_used(options):
    given, read, _ = repeated(options)
    assert dataclasses.asdict(read) == options
    assert given.run == RUN.id and given.max_error is None


def test_options_at_their_default_are_not_printed():
    assert repeated({"max_error": None, "min_gain": 0.0})[2] == f"hotbench optimize {RUN.id} --with fusion"


def test_an_error_that_a_person_allowed_is_printed():
    assert repeated({"max_error": None, "min_gain": 0.0}, "given by the caller")[0].max_error == 3e-4
