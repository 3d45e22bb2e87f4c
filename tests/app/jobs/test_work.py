"""Each kind calls the workbench with what the job asks for, and gives back plain JSON."""

from types import SimpleNamespace

import pytest

from analyzer.measurement import Measurement
from app import workbench
from app.jobs.queue import Jobs
from app.jobs.work import KINDS, settle
from app.store import open_store
from app.store.keeps import kept
from optimizers.pipeline import Outcome, Proposal
from optimizers.plan import Refusal
from tests.app.values import report_diagnosis, report_run


@pytest.fixture
def calls(monkeypatch):
    """Return what the workbench was asked for, by name; each function answers what the test put there."""
    asked, answers = {}, {}

    def replace(name):
        def answer(store, *positional, **named):
            named.pop("progress", None)
            asked[name] = (positional, named)
            return answers[name]

        monkeypatch.setattr(workbench, name, answer)

    for name in ("profile", "optimize", "compare", "export_to_store"):
        replace(name)
    prepared = []
    monkeypatch.setattr("app.derived.prepare.prepare", lambda store, run: prepared.append(run))
    return SimpleNamespace(asked=asked, answers=answers, prepared=prepared)


def do(kind, arguments, echo=lambda line: None):
    return KINDS[kind](None, arguments, lambda stage, fraction: None, echo)


def test_a_capture_returns_its_run(calls):
    calls.answers["profile"] = SimpleNamespace(id="run-1")
    assert do("profile", {"workload": "/m.py:f", "device": "cpu", "steps": 3, "threads": None}) == {"run": "run-1"}
    (workload,), named = calls.asked["profile"]
    assert workload == "/m.py:f"
    assert (named["device"], named["steps"], named["threads"]) == ("cpu", 3, None)
    assert calls.prepared == ["run-1"]


def test_a_capture_is_done_even_where_its_pages_cannot_be_prepared(calls, monkeypatch):
    def fail(store, run):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("app.derived.prepare.prepare", fail)
    calls.answers["profile"] = SimpleNamespace(id="run-1")
    told = []
    assert do("profile", {"workload": "/m.py:f"}, told.append) == {"run": "run-1"}
    assert "the pages of run-1 will be made at their first visit" in told[0] and "No space left" in told[0]


def test_a_capture_without_a_device_takes_what_there_is(calls):
    calls.answers["profile"] = SimpleNamespace(id="run-1")
    do("profile", {"workload": "/m.py:f"})
    assert calls.asked["profile"][1]["device"] == "auto"


def test_a_refusal_is_a_result_and_a_line_of_the_log(calls):
    lines = []
    refusal = Refusal("fusion", "nothing to fuse")
    run = report_run()
    proposal = Proposal(report_diagnosis(run), (), (refusal,))
    calls.answers["optimize"] = Outcome(proposal, None, None, (refusal,))
    arguments = {"run": "run-1", "optimizers": ["fusion"], "settings": {"fusion.min_gain": "2"}, "max_error": 1e-4}
    result = do("optimize", arguments, lines.append)
    assert (result["verdict"], result["kept"], lines) == ("refused", False, ["fusion: nothing to fuse"])
    assert calls.asked["optimize"] == (("run-1", ["fusion"], {"fusion.min_gain": "2"}), {"max_error": 1e-4})


def test_a_comparison_returns_its_verdict_without_the_ops(calls):
    speedup = Measurement(1.5, 1.4, 1.6, 40, "x", "bootstrap-95")
    change = SimpleNamespace(as_dict=lambda: {"name": "aten::mul"})
    calls.answers["compare"] = SimpleNamespace(
        verdict="faster", reason="it is", speedup=speedup, noise_floor=speedup, interleaved=True,
        experiment=SimpleNamespace(id="experiment-1"), ops_added=(change,), ops_removed=(), ops_changed=(change,) * 3,
    )  # fmt: skip
    result = do("compare", {"before": "run-1", "after": "run-2"})
    assert (result["verdict"], result["experiment"], result["speedup"]["median"]) == ("faster", "experiment-1", 1.5)
    assert not any(name.startswith("ops_") for name in result)


def test_an_export_returns_the_artifact_of_the_store(calls):
    calls.answers["export_to_store"] = SimpleNamespace(id="artifact-1")
    assert do("export", {"experiment": "experiment-1"}) == {"artifact": "artifact-1"}


def test_a_proven_candidate_is_marked_as_kept_once_and_by_who_asked(stored):
    place, run, _candidate, experiment = stored
    with open_store(place) as store:
        job = Jobs(store.database).submit("optimize", {"run": run.id}, title="Optimize", user="ada")
        settle(store, job, {"kept": True, "experiment": experiment.id})
        settle(store, job, {"kept": True, "experiment": experiment.id})
        (mark,) = kept(store, run.id)
    assert (mark.experiment, mark.user) == (experiment.id, "ada")


@pytest.mark.parametrize(
    ("kind", "result"), [("optimize", {"kept": False}), ("profile", {"kept": True}), ("optimize", {})]
)
def test_nothing_else_is_marked(stored, kind, result):
    place, run, _candidate, _experiment = stored
    with open_store(place) as store:
        job = Jobs(store.database).submit(kind, {"run": run.id}, title="t", user="ada")
        settle(store, job, result)
        assert kept(store, run.id) == ()
