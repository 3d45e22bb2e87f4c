"""What axe-core says of a page, in both modes and at both widths, and what is wider than the window."""

from __future__ import annotations

from typing import Any, get_args

from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Page

from tests.e2e.watched import HEIGHT, NARROW, WIDE, Scheme, settle

SEVERE = ("serious", "critical")
_RUN_AXE = "() => axe.run(document, {resultTypes: ['violations']}).then((found) => found.violations)"
_TOO_WIDE = """() => {
  const limit = document.documentElement.clientWidth;
  if (document.documentElement.scrollWidth <= limit) return [];
  const inside = (element) => element.closest("[style*='overflow'], .ag-root-wrapper, .mantine-ScrollArea-root");
  return [`the document is ${document.documentElement.scrollWidth} px wide, the window ${limit}`].concat(
    [...document.querySelectorAll("#page *")]
      .filter((element) => element.getBoundingClientRect().right > limit + 1 && !inside(element))
      .slice(0, 5)
      .map((element) => element.outerHTML.slice(0, 160)));
}"""


def assert_accessible(page: Page, name: str) -> None:
    """Assert it in both modes and widths, changed in place: as when a person turns the telephone or the lamp."""
    page.evaluate(AXE_SCRIPT)
    problems = []
    for width in (WIDE, NARROW):
        page.set_viewport_size({"width": width, "height": HEIGHT})
        for scheme in get_args(Scheme):
            page.emulate_media(color_scheme=scheme)
            if page.locator("#page").count():
                page.wait_for_selector(f"html[data-mantine-color-scheme={scheme}]", state="attached")
            settle(page)
            where = f"{name}, {scheme}, {width} px"
            problems += [f"{where}: {text}" for text in severe(page.evaluate(_RUN_AXE))]
        if width == NARROW:
            problems += [f"{name}, {width} px: {text}" for text in page.evaluate(_TOO_WIDE)]
    assert not problems, "\n".join(problems)


def severe(violations: list[dict[str, Any]]) -> list[str]:
    """Return the serious and critical ones in words, with where they are."""
    return [
        f"{found['id']} ({found['impact']}) at {[node['target'] for node in found['nodes'][:4]]}:"
        f" {found['nodes'][0].get('failureSummary', '')[:300]}"
        for found in violations
        if found["impact"] in SEVERE
    ]
