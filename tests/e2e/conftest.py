"""One chromium and one server for all tests that only look; where there is no browser they say so and are skipped.

Tests that change what is stored, log in or kill the server start one of their own under the same fixtures' names.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from tests.e2e.browser import BrowserUnavailable, find
from tests.e2e.optimized import Optimized, add_optimized
from tests.e2e.server_process import ServerProcess, serving
from tests.e2e.stored import Stored, fill
from tests.e2e.watched import Watch, launched, watched

WORKLOADS = Path(__file__).parent / "workloads"


def require_browser() -> None:
    """Return nothing; skip the test where there is no browser, or fail it where CI=true."""
    try:
        find()
    except BrowserUnavailable as error:
        if os.environ.get("CI") == "true":
            pytest.fail(str(error))
        pytest.skip(str(error))


# A started Playwright leaves an event loop running in this thread: it must not outlive this package's tests.
@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Return the system's chromium."""
    require_browser()
    with sync_playwright() as playwright, launched(playwright) as found:
        yield found


@pytest.fixture(scope="package")
def stored(tmp_path_factory: pytest.TempPathFactory, browser: Browser) -> Stored:
    """Return what is in a store with one of everything that the pages show; no test changes it."""
    return fill(tmp_path_factory.mktemp("shown") / "store")


@pytest.fixture(scope="package")
def optimized(stored: Stored) -> Optimized:
    """Return what the same store holds of the optimizers whose experiments have a card of their own."""
    return add_optimized(stored.place)


@pytest.fixture(scope="package")
def server(stored: Stored, optimized: Optimized) -> Iterator[ServerProcess]:
    """Return a server of that store."""
    with serving(stored.place, [WORKLOADS]) as started:
        yield started


@pytest.fixture(scope="package")
def browser_profile(server: ServerProcess, browser: Browser) -> Iterator[tuple[BrowserContext, Watch]]:
    """Return a browser profile that the tests share, so that the page's scripts are fetched once."""
    with watched(browser, server.url) as opened:
        yield opened


@pytest.fixture
def page(browser_profile: tuple[BrowserContext, Watch]) -> Iterator[Page]:
    """Return a new page of the shared profile; what went wrong in it fails the test that used it."""
    context, watch = browser_profile
    opened = context.new_page()
    yield opened
    opened.close()
    watch.check()
