"""Figures show the values they are given, in both schemes, and read names literally."""

import json
import math
import re

import pytest

from analyzer.measurement import Estimate, Measurement
from app.figures import bars, experiment, lines, theme
from tests.app.values import HOSTILE, report_ops


def test_the_hottest_op_is_on_top_with_its_time_in_ms():
    figure = bars.hot_ops(report_ops())
    assert figure.data[0].x[0] == pytest.approx(1.02) and figure.layout.yaxis.ticktext[0] == "aten::addmm"
    assert figure.layout.yaxis.autorange == "reversed" and figure.data[0].text[0] == "53.7 %"


def test_only_the_hottest_ops_are_drawn():
    assert len(bars.hot_ops([*report_ops()] * 9).data[0].x) == 10


def test_names_are_shown_literally():
    text = json.dumps(bars.hot_ops(report_ops()).to_plotly_json(), default=str)
    assert "<script" not in text and "&lt;/script" in text and "\\u001b" not in text
    assert theme.label(HOSTILE, longest=9).endswith("…")


def test_empty_values_give_empty_figures():
    for figure in (bars.hot_ops([]), bars.memory_at_peak({}), lines.live_bytes(())):
        assert json.loads(figure.to_json())["layout"]["height"] > 0


def test_memory_is_in_mebibytes_and_the_largest_category_first():
    figure = bars.memory_at_peak({"input": 2**20, "parameter": 3 * 2**20, "gradient": 0})
    assert list(figure.data[0].x) == [3.0, 1.0] and list(figure.layout.yaxis.ticktext) == ["parameter", "input"]


def test_live_bytes_hold_until_the_next_change_and_the_peak_is_named():
    figure = lines.live_bytes([(0.0, 2**20), (0.001, 3 * 2**20), (0.002, 2**20)])
    assert figure.data[0].line.shape == "hv" and list(figure.data[0].x) == [0.0, 1.0, 2.0]
    assert "peak 3.00 MiB" in [annotation.text for annotation in figure.layout.annotations]


def test_the_prediction_is_drawn_apart_from_the_measurement():
    measured = Measurement(2.3, 2.2, 2.4, 40, "x", "bootstrap-95")
    floor = Measurement(1.0, 0.98, 1.02, 40, "x", "bootstrap-95")
    figure = experiment.speedup(measured, floor, Estimate(1.4, 2.1, 2.6, "x", "roofline"), "faster")
    rows = {trace.y[0]: trace for trace in figure.data if trace.mode == "lines"}
    assert list(rows["measured"].x) == [2.2, 2.4] and list(rows["predicted"].x) == [1.4, 2.6]
    assert rows["predicted"].line.dash == "dot" and rows["measured"].line.dash == "solid"
    without = experiment.speedup(measured, floor, None, "faster")
    assert "predicted" not in {trace.y[0] for trace in without.data}


def test_step_times_are_drawn_in_ms():
    figure = experiment.distributions([0.002, 0.003], [0.001, 0.001], [0.002, 0.002])
    assert {trace.name: list(trace.x) for trace in figure.data}["before"] == [2.0, 3.0]


def contrast(first, second):
    def luminance(colour):
        channels = [int(colour[index : index + 2], 16) / 255 for index in (1, 3, 5)]
        red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    light, dark = sorted((luminance(first), luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize(("dark", "panel"), [(False, "#ffffff"), (True, "#1b1e23")])
def test_text_and_marks_can_be_read_on_the_page(dark, panel):
    layout = theme.template(dark).layout
    assert contrast(layout.font.color, panel) >= 7
    assert contrast(layout.xaxis.tickfont.color, panel) >= 4.5
    for colour in (
        theme.BLUE,
        theme.TEAL,
        theme.ORANGE,
        theme.RED,
        theme.VIOLET,
        theme.GREY,
        *theme.CATEGORY_COLOURS.values(),
    ):
        assert contrast(colour, panel) >= 2.4


def test_the_style_sheet_has_enough_contrast_in_both_schemes():
    from app.reports import render

    css = (render._TEMPLATES / "report.css").read_text(encoding="utf-8")
    light, dark = (dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", block)) for block in css.split("@media", 2)[:2])
    for colours in (light, dark):
        for text in ("text", "faint", "accent", "good", "bad", "warn", "predicted"):
            assert contrast(colours[text], colours["panel"]) >= 4.5, text
        assert contrast(colours["faint"], colours["page"]) >= 4.5
        for tone in ("good", "bad", "warn", "predicted"):
            assert contrast(colours[tone], colours[f"{tone}-soft"]) >= 4.5, tone
            assert contrast(colours["text"], colours[f"{tone}-soft"]) >= 4.5
    assert math.isclose(contrast("#ffffff", "#000000"), 21)
