"""Compression in a browser: bits are edited and planned anew, and an experiment shows its layers on a phone too."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.e2e.accessible import assert_accessible
from tests.e2e.optimized import Optimized, Proven
from tests.e2e.places import address
from tests.e2e.server_process import ServerProcess
from tests.e2e.watched import NARROW, visit, watched

_LAYERS = 'input[id*=\'"option":"layers"\'][id*=\'"optimizer":"quantization"\']'


@pytest.fixture
def compressed(optimized: Optimized) -> Proven:
    return optimized.compressed


def test_bits_that_are_chosen_in_the_grid_are_planned_anew_and_given_to_the_command(page: Page, compressed: Proven):
    visit(page, address("/optimize", run=compressed.run))
    card = page.locator("#optimizer-quantization")
    cell = card.locator('#quantization-editor [row-id="layer.0"] [col-id="bits"]')
    expect(cell).to_have_text("auto")
    cell.click()
    card.locator(".ag-cell-editor .ag-picker-field-wrapper").click()
    page.locator(".ag-list-item", has_text="8").first.click()
    expect(cell).to_have_text("8")
    expect(card.locator(".hb-command-text").first).to_contain_text("layer.0=8")
    assert page.locator(_LAYERS).input_value() == "layer.0=8"
    expect(card).to_contain_text("layer.0 (linear)")
    assert_accessible(page, "bits are chosen")


def test_bits_that_are_written_in_the_form_stand_in_the_grid(page: Page, compressed: Proven):
    visit(page, address("/optimize", run=compressed.run))
    card = page.locator("#optimizer-quantization")
    expect(card.locator('#quantization-editor [row-id="head"]').first).to_be_visible()
    card.get_by_role("button", name="Options").click()
    page.locator(_LAYERS).fill("head=32")
    expect(card.locator('#quantization-editor [row-id="head"] [col-id="bits"]')).to_have_text("32")
    page.locator(_LAYERS).fill("head=77")
    expect(card).to_contain_text("write NAME=BITS")


def test_an_experiment_shows_its_layers_and_the_weights_of_the_chosen_one_on_a_phone_too(
    server: ServerProcess, browser: Browser, compressed: Proven
):
    with watched(browser, server.url, width=NARROW, scheme="dark") as (context, _):
        page = visit(context.new_page(), address("/experiments", experiment=compressed.experiment))
        card = page.locator("#section-quantization")
        expect(card.locator("#quantization-front .main-svg").first).to_be_visible()
        expect(card.locator("#quantization-sensitivity .main-svg").first).to_be_visible()
        card.locator('#quantization-layers [row-id="layer.3"]').first.click()
        expect(page.locator("#quantization-layer")).to_contain_text("layer.3.weight")
        expect(page.locator("#quantization-layer .main-svg").first).to_be_visible()
        assert_accessible(page, "a compressed experiment")
        width = page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
        assert width[0] <= width[1]
