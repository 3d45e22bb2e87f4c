"""axe-core finds nothing serious or critical on any page, in both modes and at both widths; nothing is too wide."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser, Page

from app.pages import HIDDEN, PAGES
from tests.e2e.accessible import assert_accessible
from tests.e2e.conftest import WORKLOADS
from tests.e2e.places import path_of, places
from tests.e2e.server_process import serving
from tests.e2e.stored import Stored
from tests.e2e.watched import visit, watched

NAMES = tuple(places(Stored(WORKLOADS, "", "", "", "", "", "")))


def test_every_page_is_among_the_places():
    listed = {path_of(address) for address in places(Stored(WORKLOADS, "r", "o", "e", "a", "p", "j")).values()}
    assert {page.PATH for page in (*PAGES, *HIDDEN)} == listed


@pytest.mark.parametrize("name", NAMES)
def test_a_page_is_accessible_in_both_modes_and_widths(name: str, page: Page, stored: Stored):
    visit(page, places(stored)[name])
    assert page.locator("h1").count() == 1
    assert page.locator("html").get_attribute("lang") == "en"
    assert_accessible(page, name)


def test_an_empty_store_is_accessible(browser: Browser, tmp_path):
    with serving(tmp_path / "store") as empty, watched(browser, empty.url) as (context, _):
        for address in ("/runs", "/"):
            assert_accessible(visit(context.new_page(), address), f"empty {address}")
