"""The benchmark of the timing pass promises a row for each example and measures both peers."""

from benchmarks.capture import ALL_FLAGS, BENCHMARK, METRIC, UNPROFILED, measure_case
from benchmarks.contract import Promise
from tests.conftest import WORKLOADS


def test_every_example_is_promised_against_both_peers():
    expected = {Promise(case, peer, METRIC) for case in WORKLOADS for peer in (UNPROFILED, ALL_FLAGS)}
    assert set(BENCHMARK.promises) == expected


def test_a_case_gives_both_rows_and_the_fullest_profiler_costs_most():
    bare, full = measure_case("lstm.py:workload", 3, lambda stage, fraction: None)
    assert (bare.peer, full.peer, bare.case) == (UNPROFILED, ALL_FLAGS, "lstm.py:workload")
    assert bare.ours == full.ours > 0
    # Recording costs something, and recording everything costs more.
    assert bare.ratio.median < 1.0 < full.ratio.median
