"""A job as several people see it, cancelled, and killed together with the server or without it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from app.jobs.job import Job
from app.jobs.queue import Jobs
from app.store import Store, open_store
from tests.e2e.conftest import WORKLOADS
from tests.e2e.server_process import ServerProcess, processes_of, serving, wait_for
from tests.e2e.watched import settle, visit, watched

SLOW = f"{WORKLOADS / 'cell.py'}:slow"


@pytest.fixture(scope="module")
def server(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with serving(tmp_path_factory.mktemp("jobs") / "store", [WORKLOADS]) as started:
        yield started


@pytest.fixture(scope="module")
def store(server: ServerProcess) -> Iterator[Store]:
    with open_store(str(server.store)) as opened:
        yield opened


@pytest.fixture
def jobs(store: Store) -> Jobs:
    return Jobs(store.database)


@pytest.fixture
def running(jobs: Jobs) -> Job:
    """Return a capture in progress: its process has reported."""
    job = jobs.submit("profile", {"workload": SLOW, "threads": 1}, title="Capture cell.py:slow", user="local")
    return wait_for("progress", lambda: jobs.get(job.id) if jobs.get(job.id).fraction > 0 else None)


def card(page: Page, job: Job) -> dict[str, object]:
    """Return the locators of a job's detail on the Jobs page."""
    place = page.locator("#page")
    return {part: place.locator(f'[id*=\'"job":"{job.id}"\'][id*=\'"type":"job-{part}"\']').first
            for part in ("state", "error", "stage", "cancel")}  # fmt: skip


def left_by(job: Job) -> list[int]:
    """Return the living processes that were started for the job, its children's children too."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if job.id.encode() in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def test_a_reload_and_a_second_browser_see_the_same_job_and_either_may_cancel_it(
    server: ServerProcess, browser: Browser, running: Job, jobs: Jobs
):
    address = f"/jobs?job={running.id}"
    with watched(browser, server.url) as (mine, _), watched(browser, server.url) as (theirs, _):
        first, second = visit(mine.new_page(), address), visit(theirs.new_page(), address)
        expect(card(first, running)["state"]).to_have_text("running")
        expect(card(second, running)["state"]).to_have_text("running")
        first.reload()
        settle(first)
        expect(card(first, running)["state"]).to_have_text("running")
        card(first, running)["cancel"].click()
        for page in (first, second):
            expect(card(page, running)["state"]).to_have_text("cancelled")
    assert jobs.get(running.id).state == "cancelled"
    wait_for("the end of its processes", lambda: not left_by(running))
    assert not server_entries(server)


def test_a_killed_process_ends_its_job_in_words_on_an_open_page(
    server: ServerProcess, browser: Browser, running: Job, jobs: Jobs
):
    with watched(browser, server.url) as (context, _):
        page = visit(context.new_page(), f"/jobs?job={running.id}")
        process = jobs.get(running.id).process
        assert process is not None
        os.kill(int(process["pid"]), signal.SIGKILL)
        expect(card(page, running)["state"]).to_have_text("failed")
        expect(card(page, running)["error"]).to_contain_text("killed by signal 9")
    wait_for("the end of its processes", lambda: not left_by(running))
    assert not server_entries(server)


def test_after_a_killed_server_every_job_has_an_end_and_an_open_page_recovers(
    server: ServerProcess, browser: Browser, running: Job, jobs: Jobs
):
    waiting = jobs.submit("profile", {"workload": SLOW, "threads": 1}, title="Waits", user="local")
    with watched(browser, server.url) as (context, watch):
        page = visit(context.new_page(), f"/jobs?job={running.id}")
        watch.tolerate(r"ERR_CONNECTION_\w+|ERR_EMPTY_RESPONSE|ERR_INCOMPLETE_CHUNKED|the server did not respond")
        server.kill()
        expect(page.locator("#connection-lost")).to_be_visible()
        kill_job(running, jobs)
        assert not server_entries(server)
        server.start()
        expect(page.locator("#connection-lost")).to_be_hidden()
        expect(card(page, running)["state"]).to_have_text("failed")
        expect(card(page, running)["error"]).to_contain_text("the server was restarted and the job's process is gone")
        # What had waited is done now, and what was done is whole.
        visit(page, f"/jobs?job={waiting.id}")
        expect(card(page, waiting)["state"]).to_have_text("done")
        page.get_by_role("link", name="Open the run").first.click()
        expect(page.locator("h1")).to_have_text("cell.py:slow")
    assert jobs.get(running.id).state == "failed"
    assert [job.state for job in jobs.list() if job.live] == []
    assert len(server_entries(server)) == 1


def kill_job(job: Job, jobs: Jobs) -> None:
    """End the process of a job whose server is gone, as `kill -9` does."""
    process = jobs.get(job.id).process
    assert process is not None
    os.kill(int(process["pid"]), signal.SIGKILL)
    wait_for("the end of its processes", lambda: not left_by(job))


def server_entries(server: ServerProcess) -> list[str]:
    """Return what the store lists, each of which can be read whole."""
    with open_store(str(server.store)) as opened:
        entries = opened.entries()
        for entry in entries:
            assert (opened.folder(entry) / "manifest.json").is_file()
        return [entry.id for entry in entries]


def test_a_server_that_is_stopped_ends_its_job_in_words_and_leaves_no_process(
    server: ServerProcess, running: Job, jobs: Jobs
):
    assert processes_of(server.store)
    assert server.stop() == 0
    ended = jobs.get(running.id)
    assert ended.state == "failed" and "server" in ended.error and "start it again" in ended.error
    assert processes_of(server.store) == [] and left_by(running) == []
