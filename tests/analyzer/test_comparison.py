from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from analyzer.comparison import compare_runs
from analyzer.experiment import Sampling
from analyzer.run import Run
from analyzer.workload import WorkloadReference, load_workload
from tests.synthetic import Call, make_run

SHORT = Sampling(blocks=5, most_blocks=5, confirmations=0, block_seconds=0.01, timeout_seconds=60)
SOURCE = """
import torch
from analyzer.workload import Workload, seeded

def small():
    return Workload(torch.nn.Linear(7, 5), lambda seed: ((torch.randn(3, 7, generator=seeded(seed)),), {}))

def other():
    return Workload(torch.nn.Linear(7, 6), lambda seed: ((torch.randn(3, 7, generator=seeded(seed)),), {}))
"""


def stored(name: str, seconds: float, spread: float = 0.02) -> Run:
    """A run whose workload's file is gone."""
    run = make_run([Call("aten::mm", seconds)], step_seconds=seconds)
    time = dataclasses.replace(run.step_seconds, low=seconds * (1 - spread), high=seconds * (1 + spread))
    gone = dataclasses.replace(run.workload, path="/nowhere/model.py")
    return dataclasses.replace(run, id=name, step_seconds=time, workload=gone)


@pytest.mark.parametrize(
    ("after", "spread", "verdict"),
    [
        (0.010, 0.02, "faster"),
        (0.040, 0.02, "slower"),
        (0.0195, 0.02, "inconclusive"),
        (0.019, 0.001, "inconclusive"),
        (0.010, 0.5, "inconclusive"),
    ],
)
def test_stored_times_need_a_clear_difference(after: float, spread: float, verdict: str) -> None:
    found = compare_runs(stored("a", 0.020, spread), stored("b", after, spread))
    assert (found.verdict, found.interleaved, found.experiment) == (verdict, False, None)
    assert found.speedup.median == pytest.approx(0.020 / after)
    assert "not interleaved since model.py of a cannot be read" in found.reason


def test_stored_times_of_unlike_environments_are_inconclusive() -> None:
    other = stored("b", 0.001)
    other = dataclasses.replace(other, environment=dataclasses.replace(other.environment, torch="1.0"), threads=7)
    found = compare_runs(stored("a", 0.020), other)
    assert found.verdict == "inconclusive"
    assert "the stored times are of different threads, torch; profile both again" in found.reason


def test_ops_that_came_and_went_are_named() -> None:
    before = stored("a", 0.02)
    after = dataclasses.replace(before, graph=make_run([Call("hotbench::fused", 0.01)]).graph)
    found = compare_runs(before, after)
    assert [item.name for item in found.ops_added] == ["hotbench::fused"]
    assert [item.name for item in found.ops_removed] == ["aten::mm"]


def captured(path: Path, function: str) -> Run:
    _, reference = load_workload(f"{path}:{function}")
    return dataclasses.replace(stored(function, 0.001), workload=reference, threads=1)


def test_runs_that_can_be_rebuilt_are_run_again_in_turns_whatever_their_outputs(tmp_path: Path) -> None:
    path = tmp_path / "model.py"
    path.write_text(SOURCE)
    found = compare_runs(captured(path, "small"), captured(path, "other"), sampling=SHORT)
    assert found.interleaved and found.experiment is not None
    assert found.experiment.verdicts["accuracy"] == "failed"
    assert found.verdict != "refused"
    assert isinstance(WorkloadReference.from_dict(found.experiment.candidate.argument), WorkloadReference)


def test_a_changed_source_is_not_run_again(tmp_path: Path) -> None:
    path = tmp_path / "model.py"
    path.write_text(SOURCE)
    run = captured(path, "small")
    path.write_text(SOURCE + "# changed\n")
    found = compare_runs(run, run)
    assert (found.interleaved, found.verdict) == (False, "inconclusive")
    assert "model.py has changed since small was captured" in found.reason
