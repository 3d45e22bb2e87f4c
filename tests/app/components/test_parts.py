import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import plotly.graph_objects as go
import pytest
from flask import Flask

from app.components.ago import ago, ago_words
from app.components.attributes import attributes
from app.components.badge import origin_badge, verdict_badge
from app.components.command import command_line
from app.components.empty import empty, problem
from app.components.facts import bars, evidence, facts
from app.components.figure import figure, templates
from app.components.grid import THEME, grid
from app.components.icons import ICONS, icon
from app.components.kpi import kpi
from app.components.links import download_button, href, link, link_button
from app.components.notice import notice
from app.components.scheme import COOKIE
from app.components.term import PAGE_TERMS, meaning, term
from app.reports.terms import TERMS
from tests.app.components.tree import by_id, every, texts
from tests.app.values import HOSTILE

ASSETS = Path(__file__).parents[3] / "assets"


def test_every_icon_is_drawn_and_every_drawing_is_an_icon():
    css = (ASSETS / "icons.css").read_text()
    assert set(re.findall(r"\.hb-icon-([a-z]+)\{", css)) == ICONS
    assert "http" not in css.replace("http://www.w3.org/2000/svg", "")


def test_an_icon_is_decoration_and_an_unknown_one_is_our_mistake():
    drawn = icon("jobs", 22).to_plotly_json()["props"]
    assert drawn["aria-hidden"] == "true" and drawn["style"]["--hb-icon-size"] == "22px"
    with pytest.raises(KeyError, match="no icon 'smile'"):
        icon("smile")


def test_an_address_leaves_out_what_is_not_given_and_quotes_the_rest():
    assert href("/operators", run="run-1", op=17, filter=None, module="") == "/operators?run=run-1&op=17"
    assert href("/operators", run="a b&c=d", op=0) == "/operators?run=a+b%26c%3Dd&op=0"
    assert href("/runs") == "/runs"


def test_links_stay_within_the_page_and_downloads_leave_it():
    assert link("x", "/", run="r").href == "/?run=r"
    assert link_button("x", "/", primary=True).className == "hb-button hb-button-primary"
    assert download_button("x", "/api/artifacts/a.zip").target == "_blank"


NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    "seconds, words",
    [(3, "just now"), (59, "59 s ago"), (61, "1 min ago"), (7300, "2 h ago"), (3 * 86400, "3 d ago"),
     (45 * 86400, "2026-01-15")],
)  # fmt: skip
def test_a_time_is_said_as_people_say_it(seconds, words):
    assert ago_words((NOW - timedelta(seconds=seconds)).isoformat(), NOW) == words


def test_a_time_without_a_zone_is_utc_and_what_is_no_time_is_shown_as_it_is():
    assert ago_words("2026-03-01T11:00:00", NOW) == "1 h ago"
    assert ago("never\x1b").children == "never�"


def test_a_figure_has_a_name_a_text_and_a_height():
    tree = figure(go.Figure(), "plot", "Hot ops", text="mm takes most", height=210)
    image = next(item for item in every(tree) if getattr(item, "role", None) == "img")
    assert image.to_plotly_json()["props"]["aria-label"] == "Hot ops"
    assert "mm takes most" in texts(tree)
    graph = by_id(tree, "plot")
    assert graph.style == {"height": "210px"} and graph.figure.layout.height == 210
    assert graph.config["displayModeBar"] is False


@pytest.mark.parametrize("cookie, colour", [("dark", "#e6e8eb"), ("light", "#1d2430"), ("odd", "#1d2430")])
def test_a_figure_comes_in_the_scheme_of_the_request(cookie, colour):
    with Flask("app").test_request_context(headers={"Cookie": f"{COOKIE}={cookie}"}):
        shown = by_id(figure(go.Figure(), "plot", "x"), "plot").figure
    assert shown.layout.template.layout.font.color == colour


def test_making_a_figure_leaves_the_one_given_as_it_was():
    given = go.Figure()
    figure(given, "plot", "x", height=400)
    assert given.layout.height is None


def test_both_templates_are_plain_json():
    both = json.loads(json.dumps(templates()))
    assert both["light"] != both["dark"] and both.keys() == {"light", "dark"}


def test_a_grid_takes_rows_or_waits_for_them():
    columns = [{"field": "name"}]
    filled, infinite = grid("a", columns, "Runs", rows=[{"id": "1", "name": "x"}]), grid("b", columns, "Ops")
    assert filled.rowData == [{"id": "1", "name": "x"}] and not hasattr(filled, "rowModelType")
    assert infinite.rowModelType == "infinite" and not hasattr(infinite, "rowData")
    assert filled.dashGridOptions["theme"] == THEME and "'dark'" in THEME["function"]
    assert filled.enableEnterpriseModules is False and not hasattr(filled, "dangerously_allow_code")


def test_every_term_is_explained_and_reached_by_keyboard():
    for name in (*TERMS, *PAGE_TERMS):
        assert meaning(name).endswith(".")
    shown = term("self time")
    assert shown.children.tabIndex == 0 and shown.events["focus"] is True
    with pytest.raises(KeyError):
        meaning("quux")


def test_measured_and_predicted_differ_in_word_and_colour():
    measured, predicted = origin_badge(False), origin_badge(True)
    assert (measured.children, predicted.children) == ("measured", "predicted")
    assert measured.color != predicted.color


@pytest.mark.parametrize("verdict, colour", [("faster", "teal"), ("slower", "red"), ("inconclusive", "gray")])
def test_a_verdict_has_the_colour_of_its_meaning(verdict, colour):
    assert verdict_badge(verdict).color == colour and verdict_badge(verdict).children == verdict


def test_a_command_can_be_copied_as_it_is():
    command = f"hotbench show '{HOSTILE}'"
    button = next(item for item in every(command_line(command)) if type(item).__name__ == "Button")
    assert button.to_plotly_json()["props"]["data-copy"] == command


def test_a_key_figure_without_a_tag_is_words():
    assert "hb-kpi-none" in str(kpi("Device use", "not measured"))
    assert "hb-kpi-none" not in str(kpi("Step time", "9 ms", tag=origin_badge(False)))


def test_a_problem_is_an_alert_and_an_empty_state_has_its_heading():
    assert type(problem("no run 'x'")).__name__ == "Alert"
    assert texts(empty("No run yet", "Capture one.")) == "No run yet Capture one."


def test_facts_and_bars_show_their_words_whatever_they_are():
    assert texts(facts([("CPU", HOSTILE, ""), ("Threads", "1", "of 2")])).endswith("Threads 1 of 2")
    assert texts(evidence([("ops", "48")])) == "ops 48"
    rows = list(every(bars([("encoder", 1.7, "12 ms", 0), ("encoder.0", -1.0, "0 ms", 1)], "Modules")))
    widths = [item.style["width"] for item in rows if getattr(item, "className", "") == "hb-bar-fill"]
    assert widths == ["100.00%", "0.00%"]


def test_a_notice_is_what_the_notification_container_takes():
    (shown,) = notice("Tags saved", "a, b")
    assert shown["action"] == "show" and texts(shown["message"]) == "a, b"


def test_attributes_are_spelled_as_in_html():
    assert attributes(aria_label="x", data_copy="y", role="log") == {"aria-label": "x", "data-copy": "y", "role": "log"}
