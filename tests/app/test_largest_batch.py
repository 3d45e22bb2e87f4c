"""`hotbench largest-batch` on a captured training step: found, run, told; and each way to ask for what is not there."""

import json

import pytest

from analyzer.capture import capture
from analyzer.run import save_run
from analyzer.workload import load_workload
from app.cli import FAILED, main
from app.jobs.work import KINDS
from app.store import open_store

SOURCE = """
from tests.optimizers.swap.training_models import training

def attentive():
    return training("attentive")
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Return a store with a captured training step, and the run's id."""
    folder = tmp_path_factory.mktemp("largest")
    (folder / "model.py").write_text(SOURCE)
    workload, reference = load_workload(f"{folder / 'model.py'}:attentive")
    run = capture(workload, reference, steps=2, threads=1)
    with open_store(str(folder / "store")) as store:
        store.save("run", lambda target: save_run(run, target), name=run.name, created=run.created)
    return str(folder / "store"), run


@pytest.fixture(autouse=True)
def swap_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOTBENCH_SWAP", str(tmp_path))


def test_more_fits_than_with_nothing_moved_and_its_peak_is_measured(trained, capsys):
    store, run = trained
    assert main(["largest-batch", run.id, "--budget", "4MB", "--json", "--store", store]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["run"], found["axis"], found["budget_bytes"]) == (run.id, 0, 4_000_000)
    assert found["peak_bytes_measured"] <= 4_000_000 < found["peak_bytes_before"]
    assert found["batch"] > found["unswapped"]["mid"] and found["step_seconds_after"]["median"] > 0


def test_the_job_does_the_same_and_tells_how_far_it_is(trained):
    place, run = trained
    stages = []
    with open_store(place) as store:
        arguments = {"run": run.id, "budget": "4MB", "axis": 0, "allow": "recompute"}
        found = KINDS["largest-batch"](store, arguments, lambda stage, fraction: stages.append(fraction), print)
    assert found["peak_bytes_measured"] <= 4_000_000 and "run" not in found
    assert stages == sorted(stages) and stages[-1] == 1.0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--budget", "much"], "'much' is no amount of memory"),
        (["--budget", "1"], "not even a batch of 1 fits"),
        (["--budget", "4MB", "--axis", "-1"], "'-1' is no axis"),
        (["--budget", "4MB", "--axis", "9"], "has an axis 9"),
        (["--budget", "4MB", "--allow", "hope"], "swap.allow='hope'"),
        (["--budget", "4MB", "--folder", "/nowhere/at/all"], "/nowhere/at/all"),
        ([], "--budget"),
    ],
)
def test_each_mistake_is_told_in_one_line(trained, options, words, capsys):
    store, run = trained
    assert main(["largest-batch", run.id, *options, "--store", store]) == FAILED
    said = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert len(said) == 1 and words in said[0]


def test_a_step_that_does_not_train_is_refused_in_words(stored, capsys):
    store, run, _candidate, _experiment = stored
    assert main(["largest-batch", run.id, "--budget", "4MB", "--store", store]) == FAILED
    assert "does not train" in capsys.readouterr().err
