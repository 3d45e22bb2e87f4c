import pytest

from analyzer.trial import ratio_of_sizes


@pytest.mark.parametrize(("before", "after", "ratio"), [(0, 0, 1.0), (8, 8, 1.0), (8, 2, 0.25), (3, 6, 2.0)])
def test_a_size_ratio_is_after_over_before_and_one_where_nothing_is_held(before, after, ratio):
    assert ratio_of_sizes(before, after) == ratio
