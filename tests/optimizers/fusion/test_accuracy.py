"""What counts as the same result."""

from __future__ import annotations

import math

import pytest
import torch

from optimizers.fusion.accuracy import difference


def test_equal_results_have_no_difference() -> None:
    x = torch.tensor([1.0, math.nan, math.inf, -math.inf])
    assert difference([x, 3, None], [x.clone(), 3, None]).reason == ""


def test_tolerance_follows_the_dtype() -> None:
    x = torch.tensor([1.0, 100.0])
    assert difference([x + 5e-4], [x]).reason == ""
    assert "differs by" in difference([x + 5e-3], [x]).reason
    assert "differs by" in difference([x.double() + 5e-4], [x.double()]).reason
    assert difference([x + 5e-3], [x], max_error=1e-3).reason == ""


@pytest.mark.parametrize(
    ("there", "here"), [(math.nan, 1.0), (1.0, math.nan), (math.inf, -math.inf), (math.nan, math.inf)]
)
def test_special_values_at_other_places_differ(there: float, here: float) -> None:
    assert "NaN or infinities" in difference([torch.tensor([there, 2.0])], [torch.tensor([here, 2.0])]).reason


def test_integers_and_shapes_must_be_equal() -> None:
    assert "values differ" in difference([torch.tensor([1, 2])], [torch.tensor([1, 3])]).reason
    assert "was expected" in difference([torch.zeros(2)], [torch.zeros(3)]).reason
    assert "was expected" in difference([torch.zeros(2)], [torch.zeros(2).double()]).reason
    assert "was expected" in difference([4], [5]).reason


def test_empty_outputs_agree() -> None:
    assert difference([torch.empty(0, 3)], [torch.empty(0, 3)]).reason == ""
