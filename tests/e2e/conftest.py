"""One chromium for all tests of the page; where there is none they say so and are skipped, or fail under CI=true."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.e2e.browser import BrowserUnavailable, find
from tests.e2e.watched import launched

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
