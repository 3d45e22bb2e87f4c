"""A browser whose pages are watched: console errors, uncaught errors, blocked content, requests to other origins."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urlsplit

from playwright.sync_api import Browser, BrowserContext, Page, Playwright, expect

from tests.e2e import browser as chromium

WIDE, NARROW = 1440, 390
HEIGHT = 900
PATIENCE_SECONDS = 45.0
"""Ends a hung test; nothing is judged by it."""
Scheme = Literal["light", "dark"]
_LOCAL_SCHEMES = ("data", "blob", "about", "chrome-error")
_BEFORE_EACH_PAGE = """
document.addEventListener("securitypolicyviolation", (event) =>
  console.error(`CSP violation: ${event.violatedDirective} blocked ${event.blockedURI || "inline"}`));
// How many answers the page waits for, and since when none: what `settle` asks. The event stream is no fetch.
window.hotbenchWaiting = { count: 0, quietSince: performance.now() };
const fetched = window.fetch.bind(window);
window.fetch = (...given) => {
  window.hotbenchWaiting.count += 1;
  return fetched(...given).finally(() => {
    window.hotbenchWaiting.count -= 1;
    window.hotbenchWaiting.quietSince = performance.now();
  });
};
"""
_QUIET = """(quiet) =>
  document.readyState === "complete" &&
  (document.querySelector("#page") || document).querySelector("h1") !== null &&
  document.querySelector("#page .dash-spinner, #page .mantine-Skeleton-root[data-visible]") === null &&
  window.hotbenchWaiting.count === 0 &&
  performance.now() - window.hotbenchWaiting.quietSince > quiet
"""
_QUIET_MILLISECONDS = 250


@dataclass
class Watch:
    """What went wrong in the pages of one browser context."""

    origin: str
    troubles: list[str] = field(default_factory=list)
    tolerated: list[re.Pattern[str]] = field(default_factory=list)

    def tolerate(self, pattern: str) -> None:
        """Let troubles that match pass: a test that kills the server makes the browser complain of it."""
        self.tolerated.append(re.compile(pattern))

    def on_console(self, message: Any) -> None:
        """Keep an error that the page logged."""
        if message.type == "error":
            place = message.location or {}
            self._add(f"console: {message.text} ({place.get('url', '')}:{place.get('lineNumber', '')})")

    def on_page_error(self, error: Any) -> None:
        """Keep an exception that nobody caught."""
        self._add(f"uncaught: {error.error}")

    def on_request(self, request: Any) -> None:
        """Keep a request that leaves the server's origin."""
        parts = urlsplit(request.url)
        if parts.scheme not in _LOCAL_SCHEMES and f"{parts.scheme}://{parts.netloc}" != self.origin:
            self._add(f"foreign request: {request.url}")

    def on_dialog(self, dialog: Any) -> None:
        """Keep a dialog: no page of ours opens one, so somebody's name ran as code."""
        self._add(f"dialog: {dialog.message}")
        dialog.dismiss()

    def check(self) -> None:
        """Raise AssertionError unless everything went well since the last check."""
        left = [text for text in self.troubles if not any(pattern.search(text) for pattern in self.tolerated)]
        self.troubles.clear()
        assert not left, "\n".join(left[:20])

    def _add(self, text: str) -> None:
        self.troubles.append(" ".join(text.split())[:1000])


@contextlib.contextmanager
def launched(playwright: Playwright) -> Iterator[Browser]:
    """Return a context with the system's chromium, headless.

    Raises BrowserUnavailable where there is none.
    """
    # Chromium's sandbox cannot be made by root, as which containers run; only our own pages are opened here.
    browser = playwright.chromium.launch(
        executable_path=str(chromium.find()), args=["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
    )
    try:
        yield browser
    finally:
        browser.close()


@contextlib.contextmanager
def watched(
    browser: Browser, origin: str, *, width: int = WIDE, scheme: Scheme = "light"
) -> Iterator[tuple[BrowserContext, Watch]]:
    """Return a context with a fresh browser profile on `origin`, and what is noted of its pages.

    Whatever went wrong in them fails the test at the end, unless the test failed already.
    """
    context = browser.new_context(
        base_url=origin,
        viewport={"width": width, "height": HEIGHT},
        color_scheme=scheme,
        reduced_motion="reduce",
        accept_downloads=True,
    )
    context.set_default_timeout(PATIENCE_SECONDS * 1000)
    expect.set_options(timeout=PATIENCE_SECONDS * 1000)
    context.add_init_script(_BEFORE_EACH_PAGE)
    watch = Watch(origin)
    context.on("console", watch.on_console)
    context.on("weberror", watch.on_page_error)
    context.on("request", watch.on_request)
    context.on("dialog", watch.on_dialog)
    try:
        yield context, watch
        watch.check()
    except BaseException as error:
        for page in context.pages:
            shown = " ".join(page.evaluate("document.body.innerText").split())
            error.add_note(f"{page.url} showed: {shown[:600]}")
        raise
    finally:
        context.close()


def visit(page: Page, address: str) -> Page:
    """Load an address of the server and return the page once it is settled."""
    page.goto(address)
    return settle(page)


def settle(page: Page) -> Page:
    """Return the page once it has its heading and waits for no answer, as nearly as that can be told."""
    page.wait_for_function(_QUIET, arg=_QUIET_MILLISECONDS)
    return page
