"""Forms derived from options, plans as they are shown, and what became of each request."""

from dataclasses import dataclass, field
from typing import Literal

import pytest

from analyzer.errors import HotbenchError
from app.jobs.job import Job
from app.store import Entry
from app.views.optimize import (
    Attempt,
    attempts,
    command,
    of_names,
    option_error,
    option_fields,
    plan_view,
    read_max_error,
    settings_of,
    signature,
)
from optimizers.fusion.optimizer import FusionOptions
from optimizers.plan import Options, Refusal
from optimizers.settings import parse_settings, read_options
from tests.app.values import report_candidate, report_run


@dataclass(frozen=True)
class Everything(Options):
    steps: int = field(default=3, metadata={"help": "how many"})
    share: float | None = None
    mode: Literal["fast", "exact"] = "exact"
    careful: bool = True
    label: str = ""


def test_each_type_becomes_its_kind_of_field():
    fields = option_fields(Everything)
    assert [(item.name, item.kind, item.default, item.optional) for item in fields] == [
        ("steps", "whole number", "3", False),
        ("share", "number", "", True),
        ("mode", "choice", "exact", False),
        ("careful", "switch", "true", False),
        ("label", "text", "", False),
    ]
    assert fields[0].help == "how many" and fields[2].choices == ("fast", "exact")


def test_untouched_fields_give_no_settings():
    fields = option_fields(Everything)
    assert settings_of("any", fields, {item.name: item.default for item in fields}) == {}
    assert settings_of("any", fields, {"steps": "3", "share": None, "mode": "exact", "careful": True}) == {}


def test_only_what_differs_becomes_a_setting():
    fields = option_fields(Everything)
    values = {"steps": " 4 ", "share": "0.5", "mode": "fast", "careful": False, "label": "x"}
    assert settings_of("any", fields, values) == {
        "any.steps": "4",
        "any.share": "0.5",
        "any.mode": "fast",
        "any.careful": "false",
        "any.label": "x",
    }


def test_an_emptied_optional_field_with_a_default_becomes_none():
    @dataclass(frozen=True)
    class Bounded(Options):
        limit: float | None = 0.5

    assert settings_of("any", option_fields(Bounded), {"limit": ""}) == {"any.limit": "none"}


def test_an_emptied_required_field_is_an_error_and_not_silently_the_default():
    settings = settings_of("fusion", option_fields(FusionOptions), {"min_gain": "", "max_error": ""})
    assert settings == {"fusion.min_gain": ""}
    assert option_error("fusion", settings, "fusion.min_gain") == "write a number"


def test_the_form_reads_back_as_the_options_it_was_made_from():
    fields = option_fields(FusionOptions)
    settings = settings_of("fusion", fields, {"min_gain": "0.05", "max_error": "1e-4"})
    assert read_options(["fusion"], settings)["fusion"] == FusionOptions(max_error=1e-4, min_gain=0.05)


@pytest.mark.parametrize(
    ("value", "words"),
    [("abc", "write a number"), ("1.5", "fusion.min_gain=1.5 asks for more than all of the time; give less than 1")],
)
def test_a_wrong_value_is_told_of_in_words_of_the_form(value, words):
    assert option_error("fusion", {"fusion.min_gain": value}) == words


def test_right_values_have_no_error():
    assert option_error("fusion", {"fusion.min_gain": "0.5"}) == ""


@pytest.mark.parametrize("text", ["-1", "abc", "nan", "inf"])
def test_an_error_that_is_no_number_of_0_or_more_is_refused(text):
    with pytest.raises(HotbenchError, match="is no relative error"):
        read_max_error(text)


def test_an_empty_error_means_that_of_the_dtype():
    assert read_max_error("  ") is None and read_max_error("0") == 0.0 and read_max_error("1e-5") == 1e-5


def test_the_command_is_one_that_the_command_line_reads():
    text = command("run-1", ["fusion"], {"fusion.min_gain": "0.1"}, 1e-4)
    assert text == "hotbench optimize run-1 --with fusion --set fusion.min_gain=0.1 --max-error 0.0001"
    assert parse_settings([text.split("--set ")[1].split()[0]]) == {"fusion.min_gain": "0.1"}


def test_a_plan_shows_what_it_takes_and_what_it_leaves_alone():
    view = plan_view(report_candidate(report_run()).applied[0].plan)
    assert [(item.title, item.ops) for item in view.taken] == [("48 pointwise ops of the cell", 48)]
    assert [item.refusal for item in view.left] == ["one library call already"]
    assert view.estimate.mid == 2.1 and view.refusal == ""


def test_a_refusal_shows_its_reason_and_no_estimate():
    view = plan_view(Refusal("fusion", "the workload trains"))
    assert view.refusal == "the workload trains" and view.estimate is None and view.taken == ()


def entry(id, kind, parent, created, **summary):
    return Entry(id, kind, parent, id, created, "0" * 64, summary)


def job(id, created, state="done", names=("fusion",), run="run-1", result=None):
    given = {"run": run, "optimizers": list(names)}
    return Job(id, "optimize", id, given, state, "ada", created, about=run, result=result)


ENTRIES = (
    entry("run-1", "run", None, "2026-01-01"),
    entry("candidate-1", "candidate", "run-1", "2026-01-02", optimizers=["fusion"]),
    entry("experiment-1", "experiment", "candidate-1", "2026-01-03", verdict="faster"),
    entry("candidate-2", "candidate", "run-2", "2026-01-02", optimizers=["fusion"]),
    entry("experiment-2", "experiment", "candidate-2", "2026-01-03", verdict="faster"),
    entry("experiment-3", "experiment", "run-1", "2026-01-03", verdict="faster"),
)


def test_attempts_are_the_runs_own_jobs_and_experiments_newest_first():
    jobs = [job("job-2", "2026-01-04", "running"), job("job-3", "2026-01-01", run="run-2")]
    found = attempts("run-1", ENTRIES, jobs)
    assert [(item.job and item.job.id, item.experiment and item.experiment.id) for item in found] == [
        ("job-2", None),
        (None, "experiment-1"),
    ]


def test_a_job_and_its_experiment_are_one_attempt():
    done = job("job-1", "2026-01-02", result={"experiment": "experiment-1", "verdict": "faster"})
    (attempt,) = attempts("run-1", ENTRIES, [done])
    assert attempt.experiment.id == "experiment-1" and attempt.refusal == ""


def test_a_refused_request_has_its_reason():
    refused = job("job-1", "2026-01-05", result={"experiment": None, "verdict": "refused", "reason": "it trains"})
    assert attempts("run-1", (), [refused])[0].refusal == "it trains"


def test_requests_of_several_optimizers_are_apart_from_those_of_one():
    found = [Attempt(("fusion", "swap"), "2026"), Attempt(("fusion",), "2026")]
    assert of_names(found, ["swap", "fusion"]) == (found[0],) and of_names(found, ["fusion"]) == (found[1],)


def test_the_signature_tells_states_apart():
    running, done = (Attempt(("fusion",), "2026", job("job-1", "2026", state)) for state in ("running", "done"))
    assert signature([running]) != signature([done]) and signature([]) == ""
