"""The benchmark of the timing pass promises a row for each example and measures both peers."""

import pytest

from benchmarks.capture import ALL_FLAGS, BENCHMARK, METRIC, UNPROFILED, measure_case
from benchmarks.contract import Promise
from tests.conftest import WORKLOADS


def test_every_example_is_promised_against_both_peers():
    expected = {Promise(case, peer, METRIC) for case in WORKLOADS for peer in (UNPROFILED, ALL_FLAGS)}
    assert set(BENCHMARK.promises) == expected


def test_a_case_gives_both_rows_whose_ratio_is_above_1_where_ours_costs_less():
    bare, full = measure_case("lstm.py:workload", 3, lambda stage, fraction: None)
    assert (bare.peer, full.peer, bare.case) == (UNPROFILED, ALL_FLAGS, "lstm.py:workload")
    assert bare.ours == full.ours > 0
    for row in (bare, full):
        assert row.ratio.median == pytest.approx(row.theirs / row.ours)
        assert 0 < row.ratio.low <= row.ratio.median <= row.ratio.high
