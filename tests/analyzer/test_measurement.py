import pytest

from analyzer.measurement import Estimate, Measurement, measure_quartiles


def test_quartiles_of_five_values():
    measured = measure_quartiles([5.0, 1.0, 3.0, 2.0, 4.0], "s")
    assert (measured.low, measured.median, measured.high) == (2.0, 3.0, 4.0)
    assert measured.samples == 5


def test_no_values_are_refused():
    with pytest.raises(ValueError, match="no values"):
        measure_quartiles([], "s")


def test_an_estimate_out_of_order_is_refused():
    with pytest.raises(ValueError, match="does not hold"):
        Estimate(low=2.0, mid=1.0, high=3.0, unit="s", basis="test")


def test_a_nan_estimate_is_refused():
    with pytest.raises(ValueError, match="does not hold"):
        Estimate(low=0.0, mid=float("nan"), high=1.0, unit="s", basis="test")


def test_both_types_survive_their_dicts():
    measured = Measurement(1.0, 0.5, 2.0, 7, "x", "bootstrap-95")
    estimate = Estimate(1.0, 1.5, 2.0, "x", "model")
    assert Measurement.from_dict(measured.as_dict()) == measured
    assert Estimate.from_dict(estimate.as_dict()) == estimate
    assert type(measured) is not type(estimate)
