"""Logging in, what a viewer may not do, and names from traces, tags and remarks that would like to be code."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from app.jobs.queue import Jobs
from app.store import keeps, open_store
from app.store.users import add_user
from tests.e2e.accessible import assert_accessible
from tests.e2e.acts import act
from tests.e2e.conftest import WORKLOADS
from tests.e2e.places import address, places
from tests.e2e.server_process import ServerProcess, serving
from tests.e2e.stored import COMMENT, TAG, Stored, fill
from tests.e2e.watched import settle, visit, watched

PASSWORD = "quite a long password"
VIEWER, EDITOR = "vera", "edith"
SCRIPT = "<script>alert(1)</script>"
"""The part of HOSTILE that must be read on the pages; its control characters are shown in another way."""


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory, browser: Browser) -> Stored:
    found = fill(tmp_path_factory.mktemp("people") / "store", user=EDITOR)
    with open_store(str(found.place)) as store:
        add_user(store.database, "adam", PASSWORD, "admin")
        add_user(store.database, EDITOR, PASSWORD, "editor")
        add_user(store.database, VIEWER, PASSWORD, "viewer")
    return found


@pytest.fixture(scope="module")
def server(stored: Stored) -> Iterator[ServerProcess]:
    with serving(stored.place, [WORKLOADS], ["--login"]) as started:
        yield started


@pytest.fixture
def viewer(server: ServerProcess, browser: Browser) -> Iterator[Page]:
    with watched(browser, server.url) as (context, _):
        yield logged_in(context, VIEWER)


def logged_in(context: BrowserContext, name: str, password: str = PASSWORD) -> Page:
    """Return a page after the form was sent."""
    page = visit(context.new_page(), "/login")
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Log in").click()
    return settle(page)


def test_without_a_login_every_page_asks_for_one_and_then_opens(
    server: ServerProcess, browser: Browser, stored: Stored
):
    with watched(browser, server.url) as (context, watch):
        watch.tolerate("the server responded with a status of 401")
        page = visit(context.new_page(), address("/experiments", experiment=stored.experiment))
        assert urlsplit(page.url).path == "/login"
        assert_accessible(page, "login")
        page.get_by_label("Name").fill(VIEWER)
        page.get_by_label("Password").fill("a wrong password")
        page.get_by_role("button", name="Log in").click()
        expect(page.get_by_role("alert")).to_contain_text("Name or password is wrong")
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Log in").click()
        settle(page)
        assert page.evaluate("new URLSearchParams(location.search).get('experiment')") == stored.experiment
        page.get_by_role("button", name=f"Account of {VIEWER}").click()
        expect(page.get_by_text(f"{VIEWER}, viewer")).to_be_visible()
        page.get_by_role("button", name="Log out").click()
        expect(page.get_by_label("Password")).to_be_visible()
        visit(page, "/runs")
        assert urlsplit(page.url).path == "/login"


def test_a_viewer_reads_every_page_and_names_that_hold_script_are_text(viewer: Page, stored: Stored):
    shown = {
        "overview": SCRIPT,
        "operators": SCRIPT,
        "runs": TAG,
        "report": COMMENT.partition("\x1b")[0],
        "jobs": SCRIPT,
        "experiment": "faster",
    }
    for name, address_of_page in places(stored).items():
        visit(viewer, address_of_page)
        assert "cannot be shown" not in viewer.locator("#page").inner_text()
        if name in shown:
            expect(viewer.locator("#page")).to_contain_text(shown[name])
    assert viewer.locator("#page script, #page b:has-text('baseline')").count() == 0


def test_a_viewers_click_on_apply_is_refused_in_words_and_starts_nothing(viewer: Page, stored: Stored):
    visit(viewer, address("/optimize", run=stored.run))
    button = viewer.locator("#optimizer-fusion").get_by_role("button", name="Apply", exact=True)
    # Whether it can be pressed is the page's kindness: the server's answer is what counts.
    button.evaluate("(element) => { element.disabled = false; element.removeAttribute('data-disabled'); }")
    button.click(force=True)
    expect(viewer.locator("body")).to_contain_text(re.compile("this needs an editor|needs the role"))
    with open_store(str(stored.place)) as store:
        assert [job.kind for job in Jobs(store.database).list()] == ["profile"]


def test_an_editors_request_sent_by_a_viewer_changes_nothing_and_says_why(
    server: ServerProcess, browser: Browser, viewer: Page, stored: Stored
):
    with watched(browser, server.url) as (context, _):
        page = logged_in(context, EDITOR)
        visit(page, address("/experiments", experiment=stored.experiment))
        with page.expect_request(lambda found: undoes(found.post_data)) as sent:
            act(page, "Undo")
        expect(page.get_by_role("button", name="Keep again")).to_be_visible()
        act(page, "Keep again")
        expect(page.get_by_role("button", name="Undo")).to_be_visible()
    assert is_kept(stored)
    answer = viewer.context.request.post(
        "/_dash-update-component",
        data=json.loads(sent.value.post_data or ""),
        headers={"Origin": server.url, "Sec-Fetch-Site": "same-origin"},
    )
    assert is_kept(stored)
    assert re.search("viewer|editor", answer.text()) and "Traceback" not in answer.text()


def undoes(body: str | None) -> bool:
    """Return whether a request's body is the click on Undo."""
    return body is not None and '"act":"undo"' in body.replace(" ", "").replace("\\", "") and '"changedPropIds"' in body


def is_kept(stored: Stored) -> bool:
    """Return whether the experiment is kept for its run."""
    with open_store(str(stored.place)) as store:
        return [mark.experiment for mark in keeps.kept(store, stored.run)] == [stored.experiment]
