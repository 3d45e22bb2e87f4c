"""From an empty store to a reviewed artifact, as a person clicks it."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from app.store import open_store
from tests.e2e.acts import (
    STORY_SECONDS,
    act,
    capture,
    check_loads,
    choose,
    downloaded_artifact,
    go,
    optimize_from_a_finding,
    the_regions_are_shown_and_one_runs_by_itself,
)
from tests.e2e.conftest import WORKLOADS
from tests.e2e.server_process import serving
from tests.e2e.watched import settle, visit, watched


@pytest.mark.timeout(STORY_SECONDS)
def test_from_an_empty_store_to_a_reviewed_artifact(browser: Browser, tmp_path: Path):
    store = tmp_path / "store"
    with serving(store, [WORKLOADS]) as server, watched(browser, server.url) as (context, _):
        page = context.new_page()
        an_empty_store_says_what_to_do(page)
        run = capture(page, "cell.py:workload")
        the_pages_of_a_run_show_it(page, run)
        visit(page, f"/?run={run}")
        optimize_from_a_finding(page)
        verdict = page.locator(".hb-verdict")
        expect(verdict).to_contain_text("faster")
        expect(page.locator("#page")).to_contain_text("predicted")
        expect(page.locator("#page")).to_contain_text("measured")
        it_is_kept_undone_and_kept_again(page)
        experiment = the_only(store, "experiment")
        artifact = downloaded_artifact(page, experiment, tmp_path / "download")
        check_loads(page, artifact, f"{WORKLOADS / 'cell.py'}:workload")
        the_regions_are_shown_and_one_runs_by_itself(page, experiment, tmp_path / "region")
        a_report_is_published_discussed_and_approved(page, experiment)
        visit(page, f"/?run={run}")
        expect(page.locator("#page")).to_contain_text("Kept for this run")


def an_empty_store_says_what_to_do(page: Page) -> None:
    visit(page, "/")
    expect(page.locator("#page")).to_contain_text("No run yet")
    page.get_by_role("link", name="Capture a workload").click()
    expect(page.locator("#page")).to_contain_text("Capture your first run")
    settle(page)
    for title in ("Operators", "Graph", "Optimize", "Experiments", "Artifacts", "Reports", "Jobs", "Workers"):
        go(page, title)
        assert page.locator("#page h1, #page h2").count() > 0
    go(page, "Runs")


def the_pages_of_a_run_show_it(page: Page, run: str) -> None:
    expect(page.locator("#page")).to_contain_text("Step time")
    expect(page.locator("#hot-ops")).to_contain_text("aten::")
    page.locator("#overview-bytes").scroll_into_view_if_needed()
    expect(page.locator("#overview-bytes .js-plotly-plot .main-svg").first).to_be_visible()
    go(page, "Operators")
    expect(page.locator("#operators-count")).to_contain_text("ops")
    expect(page.locator(".ag-center-cols-container .ag-row").first).to_contain_text("aten::")
    go(page, "Graph")
    page.wait_for_function("() => document.querySelector('#graph-canvas')?._cyreg?.cy.nodes().length > 1")
    assert page.evaluate("new URLSearchParams(location.search).get('run')") == run


def it_is_kept_undone_and_kept_again(page: Page) -> None:
    acts = page.locator('[id*="experiment-acts"]').first
    expect(acts.get_by_text("kept", exact=True)).to_be_visible()
    act(page, "Undo")
    expect(acts.get_by_text("not kept", exact=True)).to_be_visible()
    page.reload()
    settle(page)
    expect(acts.get_by_text("not kept", exact=True)).to_be_visible()
    act(page, "Keep again")
    expect(acts.get_by_text("kept", exact=True)).to_be_visible()


def a_report_is_published_discussed_and_approved(page: Page, experiment: str) -> None:
    visit(page, f"/experiments?experiment={experiment}")
    act(page, "Publish a report")
    page.locator("#page").get_by_role("link").filter(has_text="cell.py").last.click()
    expect(page.get_by_role("heading", name="The record")).to_be_visible()
    choose(page, "About", "aten::")
    page.get_by_label("Remark").fill("Is <b>this</b> op the hot one?")
    act(page, "Add the remark")
    expect(page.locator("#comment-list")).to_contain_text("Is <b>this</b> op the hot one?")
    act(page, "Self-approve")
    expect(page.locator("#review-box")).to_contain_text("approved")
    expect(page.locator("#review-box")).to_contain_text("self", ignore_case=True)


def the_only(store: Path, kind: str) -> str:
    """Return the id of the one entry of its kind."""
    with open_store(str(store)) as opened:
        (entry,) = opened.entries(kind)
        return entry.id
