"""A memory budget in a browser: the slider plans anew and fills the form, and an experiment shows its memory."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.e2e.accessible import assert_accessible
from tests.e2e.optimized import Optimized, Proven
from tests.e2e.places import address
from tests.e2e.server_process import ServerProcess
from tests.e2e.watched import NARROW, visit, watched

_BUDGET = 'input[id*=\'"option":"budget"\'][id*=\'"optimizer":"swap"\']'


@pytest.fixture
def swapped(optimized: Optimized) -> Proven:
    return optimized.swapped


def test_the_slider_plans_anew_marks_the_curve_and_fills_the_form(page: Page, swapped: Proven):
    visit(page, address("/optimize", run=swapped.run))
    shown = page.locator("#swap-simulated")
    expect(shown).to_contain_text("60.0 % of the step's own peak")
    expect(page.locator("#swap-memory-simulated .main-svg").first).to_be_visible()
    thumb = page.locator("#swap-budget [role=slider]")
    thumb.press("ArrowRight")
    expect(shown).to_contain_text("61.0 % of the step's own peak")
    assert page.locator(_BUDGET).input_value() == "61%"
    commands = page.locator("#optimizer-swap .hb-command-text")
    expect(commands.filter(has_text="optimize ")).to_contain_text("swap.budget=61%")
    expect(commands.filter(has_text="largest-batch")).to_contain_text("--budget 61%")
    page.get_by_role("textbox", name="What grows").click()
    page.get_by_role("option", name="mostly the sequence").click()
    expect(commands.filter(has_text="largest-batch")).to_contain_text("--axis 1")
    marked = page.locator("#swap-curve .js-plotly-plot").evaluate("(plot) => plot.data[1].x.length")
    assert_accessible(page, "a budget is tried")
    assert marked == 1 and page.locator("#optimizer-swap").get_by_text("simulated", exact=True).count() >= 1


def test_a_budget_that_cannot_be_kept_is_said_and_no_point_is_marked(page: Page, swapped: Proven):
    visit(page, address("/optimize", run=swapped.run))
    expect(page.locator("#swap-simulated")).to_contain_text("60.0 %")
    page.locator("#optimizer-swap").get_by_role("button", name="Options").click()
    page.locator(_BUDGET).fill("12KiB")
    expect(page.locator("#swap-simulated")).to_contain_text("cannot be kept")
    page.wait_for_function("() => document.querySelector('#swap-curve .js-plotly-plot').data[1].x.length === 0")
    assert page.locator(_BUDGET).input_value() == "12KiB"


def test_an_experiment_shows_memory_moves_and_lanes_on_a_phone_too(
    server: ServerProcess, browser: Browser, swapped: Proven
):
    with watched(browser, server.url, width=NARROW, scheme="dark") as (context, _):
        page = visit(context.new_page(), address("/experiments", experiment=swapped.experiment))
        card = page.locator("#section-swap")
        expect(card.locator(".main-svg").first).to_be_visible()
        expect(card).to_contain_text("Tensor")
        expect(card).to_contain_text("to disk")
        assert_accessible(page, "a swapped experiment")
        width = page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
        assert width[0] <= width[1]
