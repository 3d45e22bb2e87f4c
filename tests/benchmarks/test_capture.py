"""The benchmark of the timing pass promises rows for each example and measures every peer."""

import pytest

from benchmarks.capture import BENCHMARK, METRIC, ROWS, UNPROFILED, WHOLE_METRIC, measure_case
from benchmarks.contract import Promise
from tests.conftest import WORKLOADS


def test_every_example_is_promised_against_every_peer():
    expected = {Promise(case, peer, metric) for case in WORKLOADS for peer, metric in ROWS}
    assert set(BENCHMARK.promises) == expected


def test_a_case_gives_every_row_whose_ratio_is_above_1_where_ours_costs_less():
    rows = measure_case("lstm.py:workload", 3, lambda stage, fraction: None)
    assert [(row.peer, row.metric) for row in rows] == list(ROWS)
    assert len({row.ours for row in rows if row.metric == METRIC}) == 1
    for row in rows:
        assert row.case == "lstm.py:workload" and row.ours > 0
        assert row.ratio.median == pytest.approx(row.theirs / row.ours)
        assert 0 < row.ratio.low <= row.ratio.median <= row.ratio.high


def test_halves_and_whole_steps_stand_against_the_same_plain_steps():
    rows = measure_case("cnn.py:workload", 3, lambda stage, fraction: None)
    by_metric = {row.metric: row.theirs for row in rows if row.peer == UNPROFILED}
    assert by_metric[METRIC] == by_metric[WHOLE_METRIC]
