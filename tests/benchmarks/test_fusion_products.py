"""The benchmark of matrix products measures both layouts against torch, and checks the numbers first."""

import pytest
import torch

from benchmarks.contract import Promise
from benchmarks.fusion_products import BENCHMARK, LAYOUTS, METRIC, PEER, SHAPES, measure_product


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_every_shape_is_promised_in_both_layouts():
    assert len(BENCHMARK.promises) == len(SHAPES) * len(LAYOUTS)
    assert Promise("1x512x128-packed", PEER, METRIC) in BENCHMARK.promises


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_row_is_above_1_where_ours_takes_less(layout, one_thread):
    row = measure_product((3, 37, 19), layout, 3)
    assert row.case == f"3x37x19-{layout}" and row.ours > 0
    assert row.ratio.median == pytest.approx(row.theirs / row.ours)
    assert row.ratio.low <= row.ratio.median <= row.ratio.high
