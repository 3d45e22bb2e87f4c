"""Numbers for people: units, digits, and text that cannot harm a terminal."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app import units


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0123456, "12.3 ms"), (1.5, "1,500 ms"), (2e-5, "0.0200 ms"), (9.99e-6, "9.99 µs"),
        (0.0, "0 ms"), (None, "–"), (math.nan, "nan ms"),
    ],
)  # fmt: skip
def test_seconds_are_shown_in_ms_and_tiny_ones_in_microseconds(seconds, text):
    assert units.milliseconds(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"), (1023, "1,023 B"), (1024, "1.00 KiB"), (2**20, "1.00 MiB"), (1536 * 2**20, "1.50 GiB"),
        (66_048, "64.5 KiB"), (104_858, "0.100 MiB"), (None, "–"),
    ],
)  # fmt: skip
def test_bytes_are_shown_in_mebibytes(count, text):
    assert units.mebibytes(count) == text


@pytest.mark.parametrize(
    ("flops", "text"), [(2.62e7, "0.0262 GFLOP"), (1.5e6, "1.50 MFLOP"), (129, "129 FLOP"), (0, "–"), (None, "–")]
)
def test_work_is_shown_in_gigaflop(flops, text):
    assert units.gigaflops(flops) == text


@given(st.floats(min_value=1e-12, max_value=1e12))
def test_three_digits_are_within_a_percent_of_the_value(value):
    shown = float(units.digits(value).replace(",", ""))
    assert math.isclose(shown, value, rel_tol=0.01)
    assert units.digits(-value) == f"-{units.digits(value)}"


@given(st.text())
def test_printable_text_is_one_line_of_the_same_length_without_controls(text):
    shown = units.printable(text)
    assert len(shown) == len(text) and "\x1b" not in shown and len(shown.splitlines()) <= 1
    assert units.printable(shown) == shown


def test_a_figure_is_shown_by_the_unit_in_its_name():
    assert units.evidence("mean_seconds_per_op", 2e-6) == "2.00 µs"
    assert units.evidence("bytes_moved", 2**21) == "2.00 MiB"
    assert units.evidence("share_of_step", 0.216) == "21.6 %"
    assert units.evidence("ops", 1203) == "1,203"
    assert units.evidence("phase", "forward") == "forward"
    assert units.evidence("kept", True) == "True"
    assert units.evidence_label("mean_seconds_per_op") == "mean time per op"


def test_an_estimate_is_shown_in_its_unit():
    assert units.quantity(0.002, "s") == "2.00 ms"
    assert units.quantity(2**20, "bytes") == "1.00 MiB"
    assert units.quantity(2.0, "x") == "2.00×"
    assert units.quantity(3.0, "W") == "3.00 W"


def test_a_time_is_shown_in_utc():
    assert units.moment("2026-01-02T03:04:05+02:00") == "2026-01-02 01:04 UTC"
    assert units.moment("yesterday") == "yesterday"


def test_nouns_agree_with_their_number():
    assert [units.plural(count, "op") for count in (0, 1, 1203)] == ["0 ops", "1 op", "1,203 ops"]


@pytest.mark.parametrize(
    ("reason", "text"),
    [
        ("faster: 5.770x (5.625 to 6.020); size 1.000x", "5.77× (5.62× to 6.02×); size 1.00×"),
        ("faster: noise floor 0.975 to 1.026, within 1e-05", "noise floor 0.975× to 1.03×, within 1e-05"),
        ("slower: 0.985× to 2.13.0 of 3.7e-07 and 1.2345", "0.985× to 2.13.0 of 3.7e-07 and 1.2345"),
    ],
)
def test_a_verdicts_ratios_are_written_as_everywhere_else(reason, text):
    assert units.verdict_reason(reason.partition(":")[0], reason) == text
