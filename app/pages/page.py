"""What a page is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from dash import Dash


class Page(Protocol):
    """What each module of app.pages provides; they are listed in app.pages.PAGES.

    PATH:   "/runs". "/" is the Overview of the run in the address, or of the latest.
    TITLE:  in the navigation and the browser's tab.
    ICON:   a name in app.components.icons.
    NEEDS_RUN: whether the page is about one run: the address then holds `run`, and the latest is taken without one.
    """

    PATH: str
    TITLE: str
    ICON: str
    NEEDS_RUN: bool

    def layout(self, query: Mapping[str, str]) -> Any:
        """Return the page's component tree for the address's query, such as {"run": "run-1a2b", "op": "17"}.

        Called for each visit, inside a request: app.web.context.context() gives store and jobs.
        Raises HotbenchError, which is shown in the page's place, in words.
        """

    def register(self, app: Dash) -> None:
        """Declare the page's callbacks on `app` (never dash.callback: that is one list for the whole process)."""
