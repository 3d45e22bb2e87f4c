"""Stored times are compared only where they can be, and never called interleaved."""

import dataclasses

import pytest

from analyzer.errors import HotbenchError
from app.comparison import compare_runs, comparison_summary
from tests.synthetic import Call, make_run


def run(seconds, **changes):
    value = make_run([Call("aten::add", seconds)], step_seconds=seconds)
    return dataclasses.replace(value, **changes)


@pytest.mark.parametrize(
    ("before", "after", "verdict"), [(1.0, 0.5, "faster"), (0.5, 1.0, "slower"), (1.0, 0.97, "inconclusive")]
)
def test_stored_times_give_a_verdict_outside_of_their_own_spread(before, after, verdict):
    comparison = compare_runs(run(before), run(after))
    assert comparison.verdict == verdict and not comparison.interleaved and comparison.experiment is None
    assert comparison.speedup.median == pytest.approx(before / after)
    assert "model.py of run-000000000001 cannot be read" in comparison.reason


def test_stored_times_of_other_environments_are_not_compared():
    other = run(1.0, threads=2)
    with pytest.raises(HotbenchError, match="their environments differ; profile both again on one machine"):
        compare_runs(run(1.0), other)


def test_a_workload_that_has_changed_is_named(tmp_path):
    path = tmp_path / "model.py"
    path.write_text("changed")
    value = run(1.0)
    value = dataclasses.replace(value, workload=dataclasses.replace(value.workload, path=str(path)))
    assert "model.py has changed since run-000000000001" in compare_runs(value, value).reason


def test_the_summary_has_the_keys_of_the_contract():
    summary = comparison_summary(compare_runs(run(1.0), run(0.5)))
    assert {"verdict", "speedup", "noise_floor", "interleaved", "ops_added", "ops_removed", "ops_changed"} <= set(
        summary
    )
    assert {"median", "low", "high"} <= set(summary["speedup"])
    assert summary["ops_changed"][0]["name"] == "aten::add"
