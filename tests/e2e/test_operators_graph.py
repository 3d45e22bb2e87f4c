"""Operators and graph in a browser: one selection, a filter that lasts, a picture that opens where it is clicked."""

from __future__ import annotations

import csv
import io
from urllib.parse import parse_qs

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.optimized import Optimized
from tests.e2e.places import address
from tests.e2e.watched import settle, visit

ZEROS, BODY = 1, 3
"""Nodes of the tree: the op before the loop, the first place of its body."""
_DRAWN = "() => document.querySelector('.hb-graph[data-shown]') !== null"
_AT = """(node) => {
  const graph = window.hotbench.graph;
  const frame = graph.container().getBoundingClientRect();
  const place = graph.getElementById("n" + node).renderedPosition();
  return [frame.x + place.x, frame.y + place.y];
}"""


@pytest.fixture
def run(optimized: Optimized) -> str:
    """Return the run of a loop of a hundred turns."""
    return optimized.loop


def selected(page: Page) -> dict[str, str]:
    """Return the address's query."""
    return {name: values[-1] for name, values in parse_qs(str(page.evaluate("location.search"))[1:]).items()}


def nodes(page: Page) -> int:
    """Return how many nodes the picture has."""
    return int(page.evaluate("window.hotbench.graph.nodes().length"))


def double_click(page: Page, node: int) -> None:
    """Click twice on a node of the picture, and wait until it has been drawn anew."""
    before = page.get_attribute(".hb-graph", "data-shown")
    page.mouse.dblclick(*page.evaluate(_AT, node))
    page.wait_for_function("(old) => document.querySelector('.hb-graph').dataset.shown !== old", arg=before)
    settle(page)


def test_a_double_click_opens_a_group_in_place_and_another_closes_it(page: Page, run: str):
    visit(page, address("/graph", run=run))
    page.wait_for_function(_DRAWN)
    assert nodes(page) == 6
    double_click(page, BODY)
    assert nodes(page) == 106
    page.get_by_role("button", name="Start view").click()
    page.wait_for_function("() => window.hotbench.graph.nodes().length === 6")


def test_what_is_clicked_is_selected_and_comes_back_after_a_reload(page: Page, run: str):
    visit(page, address("/graph", run=run))
    page.wait_for_function(_DRAWN)
    page.mouse.click(*page.evaluate(_AT, ZEROS))
    expect(page.locator("#graph-details")).to_contain_text("aten::zeros")
    page.wait_for_function("() => new URLSearchParams(location.search).get('op') === '0'")
    page.reload()
    page.wait_for_function("() => window.hotbench?.graph?.elements('.marked').length === 1")
    assert page.evaluate("window.hotbench.graph.elements('.marked').data('op')") == 0


def test_the_list_does_what_the_picture_does_with_the_keyboard_alone(page: Page, run: str):
    visit(page, address("/graph", run=run))
    page.wait_for_function(_DRAWN)
    page.get_by_role("button", name="Open sigmoid").focus()
    page.keyboard.press("Enter")
    page.wait_for_function("() => window.hotbench.graph.nodes().length === 106")
    page.get_by_label("Find a node").fill("zeros")
    page.locator("#graph-matches button").first.focus()
    page.keyboard.press("Enter")
    expect(page.locator("#graph-details")).to_contain_text("aten::zeros")


def test_an_op_selected_in_the_list_is_marked_in_the_graph(page: Page, run: str):
    visit(page, address("/operators", run=run))
    page.locator(".ag-row[row-index='0'] [col-id='name']").click()
    expect(page.locator("#operators-details")).to_contain_text("op 0")
    page.get_by_role("link", name="Show in the graph").click()
    page.wait_for_function("() => window.hotbench?.graph?.elements('.marked').length === 1")
    assert selected(page)["op"] == "0"


def test_search_order_and_list_last_over_a_reload_and_go_into_the_csv(page: Page, run: str):
    visit(page, address("/operators", run=run))
    page.get_by_label("Search the ops").fill("sigmoid")
    expect(page.locator("#operators-count")).to_have_text("100 ops chosen by the filter")
    page.locator(".ag-header-cell[col-id='op'] .ag-header-cell-label").click()
    page.locator(".ag-header-cell[col-id='op'] .ag-header-cell-label").click()
    page.wait_for_function("""() => (new URLSearchParams(location.search).get("filter") || "").includes("desc")""")
    expect(page.locator(".ag-row[row-index='0'] [col-id='op']")).to_have_text("399")
    page.reload()
    expect(page.get_by_label("Search the ops")).to_have_value("sigmoid")
    expect(page.locator(".ag-row[row-index='0'] [col-id='op']")).to_have_text("399")
    link = page.locator("#operators-csv").evaluate("(element) => element.href")
    rows = list(csv.reader(io.StringIO(page.request.get(link).text())))
    assert len(rows) == 101 and [row[0] for row in rows[1:3]] == ["399", "395"]
    page.locator("label").filter(has_text="Names").click()
    expect(page.locator("#operators-count")).to_have_text("1 name chosen by the filter")
