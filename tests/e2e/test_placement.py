"""Several workers in a browser: a world and a cluster are tried, and an experiment shows each backend's step."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.e2e.accessible import assert_accessible
from tests.e2e.optimized import Optimized, Proven
from tests.e2e.places import address
from tests.e2e.server_process import ServerProcess
from tests.e2e.watched import NARROW, visit, watched

_WORLD = 'input[id*=\'"option":"world_size"\'][id*=\'"optimizer":"placement"\']'


@pytest.fixture
def placed(optimized: Optimized) -> Proven:
    return optimized.placed


def test_a_world_and_a_cluster_are_predicted_and_go_into_the_form(page: Page, placed: Proven):
    visit(page, address("/optimize", run=placed.run))
    shown = page.locator("#placement-shown")
    expect(shown).to_contain_text("2 workers, this machine")
    expect(page.locator("#placement-scale-simulated .main-svg").first).to_be_visible()
    page.locator("#placement-clusters").click()
    page.get_by_role("option", name="h100-hosts").click()
    expect(shown).to_contain_text("16 hosts of 8 H100")
    page.locator("#placement-worlds").click()
    page.get_by_role("option", name="64", exact=True).click()
    expect(shown).to_contain_text("64 workers")
    assert page.locator(_WORLD).input_value() == "64"
    expect(page.locator("#optimizer-placement .hb-command-text").first).to_contain_text("placement.world_size=64")
    assert_accessible(page, "a cluster is tried")
    assert page.locator("#optimizer-placement").get_by_text("simulated", exact=True).count() >= 3


def test_an_experiment_shows_each_backend_on_a_phone_too(server: ServerProcess, browser: Browser, placed: Proven):
    with watched(browser, server.url, width=NARROW, scheme="dark") as (context, _):
        page = visit(context.new_page(), address("/experiments", experiment=placed.experiment))
        card = page.locator("#section-placement")
        expect(card.locator(".main-svg").first).to_be_visible()
        expect(card).to_contain_text("posix")
        expect(card).to_contain_text("was not measured")
        assert_accessible(page, "an experiment of several workers")
        width = page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
        assert width[0] <= width[1]
