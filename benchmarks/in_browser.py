"""Seconds as a person at the browser has them: from the navigation, or from a click, until the result is painted."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from playwright.sync_api import Browser, BrowserContext, Page, ViewportSize, sync_playwright

from analyzer.errors import HotbenchError
from tests.e2e.browser import BrowserUnavailable, find

LIMIT_SECONDS = 180.0
"""Ends a hung measurement."""
VIEWPORT: ViewportSize = {"width": 1440, "height": 900}

# Two frames after the condition holds, what it speaks of has been painted.
_PAINTED = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now()))))"
_SHOWN = """(condition) => {
  const holds = new Function("return (" + condition + ");");
  return new Promise((done) => {
    const look = () => holds() ? %s.then(done) : requestAnimationFrame(look);
    look();
  });
}""".replace("%s", _PAINTED)
_ACT = """([act, condition]) => {
  const before = new Function("return (" + act.before + ");")();
  const holds = new Function("before", "return (" + condition + ");");
  return new Promise((done) => {
    const start = performance.now();
    new Function(act.click)();
    const look = () => holds(before) ? %s.then((now) => done(now - start)) : requestAnimationFrame(look);
    requestAnimationFrame(look);
  });
}""".replace("%s", _PAINTED)


@contextlib.contextmanager
def opened_browser() -> Iterator[Browser]:
    """Return a context with the system's chromium, headless and without a GPU.

    Raises HotbenchError where there is none.
    """
    try:
        executable = find()
    except BrowserUnavailable as error:
        raise HotbenchError(str(error)) from error
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=str(executable), args=["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
        )
        try:
            yield browser
        finally:
            browser.close()


def new_profile(browser: Browser) -> BrowserContext:
    """Return a browser profile with an empty cache."""
    context = browser.new_context(viewport=VIEWPORT, reduced_motion="reduce", bypass_csp=True)
    context.set_default_timeout(LIMIT_SECONDS * 1000)
    return context


@contextlib.contextmanager
def shown(context: BrowserContext, url: str, condition: str) -> Iterator[tuple[Page, float]]:
    """Return a context with a page, and the seconds from the navigation until its `condition` held and was painted.

    condition: a JavaScript expression.
    """
    page = context.new_page()
    try:
        page.goto(url, wait_until="commit")
        yield page, float(page.evaluate(_SHOWN, condition)) / 1000
    finally:
        page.close()


def seconds_of_act(page: Page, before: str, click: str, condition: str) -> float:
    """Return the seconds from a click until `condition`, which may read `before`'s value of then, is painted.

    before, condition: JavaScript expressions. click: JavaScript statements.
    """
    return float(page.evaluate(_ACT, [{"before": before, "click": click}, condition])) / 1000
