"""The address bar holds run, view, selection and filter: they survive a reload, a shared link and the back button."""

from __future__ import annotations

from urllib.parse import parse_qs

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.e2e.places import address
from tests.e2e.server_process import ServerProcess
from tests.e2e.stored import Stored
from tests.e2e.watched import settle, visit, watched

ROW = ".ag-center-cols-container .ag-row"


def query_of(page: Page) -> dict[str, str]:
    """Return the query of the page's address as it is now."""
    return {name: values[-1] for name, values in parse_qs(str(page.evaluate("location.search"))[1:]).items()}


def wait_for_query(page: Page, name: str, value: str = "") -> None:
    """Return once the address holds that part of a query, with that value where one is given."""
    page.wait_for_function(
        "([name, value]) => { const found = new URLSearchParams(location.search).get(name);"
        " return found !== null && (value === '' || found === value); }",
        arg=[name, value],
    )


_ROWS = """() => [...document.querySelectorAll('.ag-center-cols-container .ag-row')]
  .sort((a, b) => a.getAttribute('row-index') - b.getAttribute('row-index')).map((row) => row.innerText)"""


def rows(page: Page) -> list[str]:
    """Return what the rows of the grid say, in the order in which they are shown."""
    found: list[str] = page.evaluate(_ROWS)
    return found


def wait_for_rows(page: Page, listed: list[str]) -> None:
    """Return once the grid shows exactly these rows: they arrive after the page is there."""
    page.wait_for_function(f"(listed) => JSON.stringify(({_ROWS})()) === JSON.stringify(listed)", arg=listed)


def test_selection_and_filter_of_the_operators_survive_a_reload_and_the_back_button(page: Page, stored: Stored):
    visit(page, address("/operators", run=stored.run))
    expect(page.locator("#operators-count")).to_have_text("61 ops")
    expect(page.locator(ROW).nth(12)).to_contain_text("aten::")
    page.get_by_label("Search the ops").fill("sigmoid")
    expect(page.locator("#operators-count")).to_contain_text("12 ops chosen")
    expect(page.locator(ROW)).to_have_count(12)
    page.locator(ROW).nth(2).click()
    wait_for_query(page, "op")
    before, chosen, listed = page.evaluate("location.href"), query_of(page), rows(page)
    assert chosen["run"] == stored.run and "sigmoid" in chosen["filter"] and len(listed) == 12

    page.reload()
    settle(page)
    wait_for_rows(page, listed)
    assert page.evaluate("location.href") == before
    assert page.get_by_label("Search the ops").input_value() == "sigmoid"
    expect(page.locator("#operators-details")).to_contain_text(f"op {chosen['op']}")
    expect(page.locator(f"{ROW}.ag-row-selected")).to_have_count(1)

    page.get_by_role("navigation", name="Pages").get_by_role("link", name="Overview").click()
    expect(page.locator("h1")).to_have_text("model.py:workload")
    page.go_back()
    expect(page.locator("h1")).to_have_text("Operators")
    settle(page)
    wait_for_rows(page, listed)
    assert page.evaluate("location.href") == before


def test_a_link_opens_the_same_view_in_another_browser(
    page: Page, stored: Stored, server: ServerProcess, browser: Browser
):
    visit(page, address("/operators", run=stored.other_run))
    page.locator(ROW).nth(1).click()
    wait_for_query(page, "op")
    with watched(browser, server.url) as (theirs, _):
        other = visit(theirs.new_page(), page.evaluate("location.href"))
        expect(other.locator("#operators-details")).to_contain_text(f"op {query_of(page)['op']}")
        expect(other.get_by_role("textbox", name="Run")).to_have_value(
            page.get_by_role("textbox", name="Run").input_value()
        )


def test_the_selected_op_goes_along_to_the_graph_and_back(page: Page, stored: Stored):
    visit(page, address("/operators", run=stored.run, op="7"))
    for title in ("Graph", "Operators"):
        page.get_by_role("navigation", name="Pages").get_by_role("link", name=title).click()
        expect(page.locator("h1")).to_have_text(title)
        settle(page)
        assert query_of(page)["op"] == "7" and query_of(page)["run"] == stored.run


def test_another_run_is_chosen_in_the_header_and_the_view_stays(page: Page, stored: Stored):
    visit(page, address("/operators", run=stored.run))
    page.get_by_role("textbox", name="Run").click()
    page.get_by_role("option").filter(has_text="later").click()
    wait_for_query(page, "run", stored.other_run)
    assert page.evaluate("location.pathname") == "/operators"
    expect(page.locator("#page")).to_contain_text("later")


@pytest.mark.parametrize(
    ("wrong", "words"),
    [("/?run=run-ffffffffffff", "run-ffffffffffff"), ("/nowhere", "no such page"), ("/operators?run=../../etc", "etc")],
)
def test_a_wrong_address_is_answered_in_words(page: Page, wrong: str, words: str):
    visit(page, wrong)
    expect(page.locator("#page")).to_contain_text(words, ignore_case=True)
    expect(page.get_by_role("link", name="To the runs")).to_be_visible()
