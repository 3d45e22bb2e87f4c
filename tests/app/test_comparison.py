"""The command line's JSON of a comparison; the comparison itself is tested with the analyzer."""

from analyzer.comparison import compare_runs
from app.comparison import comparison_summary
from tests.synthetic import Call, make_run


def run(seconds):
    return make_run([Call("aten::add", seconds)], step_seconds=seconds)


def test_the_summary_has_the_keys_of_the_contract():
    summary = comparison_summary(compare_runs(run(1.0), run(0.5)))
    assert {"verdict", "speedup", "noise_floor", "interleaved", "ops_added", "ops_removed", "ops_changed"} <= set(
        summary
    )
    assert {"median", "low", "high"} <= set(summary["speedup"])
    assert summary["ops_changed"][0]["name"] == "aten::add"
