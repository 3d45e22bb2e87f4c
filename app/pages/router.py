"""From an address to a page: the frame's layout, and the callback that fills it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import dash_mantine_components as dmc
from dash import Dash, Input, Output
from flask import request

from analyzer.errors import HotbenchError
from app.components import jobs, shell
from app.components.empty import empty, problem
from app.components.links import link_button
from app.components.navigation import Place
from app.pages import HIDDEN, PAGES
from app.pages.page import Page
from app.store import Store
from app.views.loaded import load_ahead
from app.views.runs import switcher_options
from app.web import faults
from app.web.access import person
from app.web.context import context

_OUR_MISTAKE = (
    "Hotbench itself made a mistake on this page; the terminal that the server was started in says more. "
    "The other pages still work."
)
PLACES = tuple(Place(page.PATH, page.TITLE, page.ICON, page.NEEDS_RUN) for page in PAGES)


def layout() -> dmc.MantineProvider:
    """Return the frame for the person who asks: Dash calls it for each load of the page."""
    who = person()
    _load_ahead(request.referrer or "")
    return shell.layout(PLACES, who, context().login, jobs.header_button())


def _load_ahead(address: str) -> None:
    """Begin to load the run of the page that asks for the frame: the browser sends that page's address along."""
    parts = urlsplit(address)
    page = find_page(parts.path) if parts.path else None
    if page is not None and page.NEEDS_RUN:
        load_ahead(context().store, read_query(parts.query).get("run", ""))


def register(app: Dash) -> None:
    """Declare the callbacks of the frame, of the router and of every page on `app`."""
    shell.register(app)
    jobs.register(app)
    for page in (*PAGES, *HIDDEN):
        page.register(app)

    @app.callback(
        Output("page", "children"),
        Output("selection", "data"),
        Output("page-title", "data"),
        Input("visit", "data"),
        prevent_initial_call=True,
    )
    def _visit(visit: Mapping[str, Any]) -> tuple[Any, dict[str, Any], str]:
        return render(str(visit["path"]), str(visit["search"]))

    @app.callback(Output("run-switcher", "data"), Input("visit", "data"), Input("jobs-changed", "data"))
    def _runs(_visit: object, _changed: object) -> list[dict[str, str]]:
        return switcher_options(context().store.entries("run"))


def render(path: str, search: str) -> tuple[Any, dict[str, Any], str]:
    """Return a page's component tree, the selection that its address holds, and its title.

    Whatever goes wrong is said in the page's place: there is never a blank page.
    """
    query = read_query(search)
    page = find_page(path)
    if page is None:
        return _nowhere(path), selection(query), "No such page"
    try:
        query = with_run(context().store, page, query)
        return page.layout(query), selection(query), page.TITLE
    except HotbenchError as error:
        return _in_words(str(error)), selection(query), page.TITLE
    except Exception as error:  # our own mistake: the person learns that, the server's terminal learns the rest
        faults.report(error)
        return _in_words(_OUR_MISTAKE), selection(query), page.TITLE


def read_query(search: str) -> dict[str, str]:
    """Return the query of an address; the last of several values counts."""
    return dict(parse_qsl(search.removeprefix("?"), keep_blank_values=False))


def find_page(path: str) -> Page | None:
    """Return the page at `path`, with or without a slash at its end."""
    wanted = path.rstrip("/") or "/"
    return next((page for page in (*PAGES, *HIDDEN) if wanted == page.PATH), None)


def with_run(store: Store, page: Page, query: Mapping[str, str]) -> dict[str, str]:
    """Return the query with the whole id of its run; of the latest where the page needs one and none is named.

    Raises StoreError for a run that the store does not hold.
    """
    named = query.get("run", "")
    if named:
        return {**query, "run": store.find(named, ("run",)).id}
    if page.NEEDS_RUN and (runs := store.entries("run")):
        return {**query, "run": runs[0].id}
    return dict(query)


def selection(query: Mapping[str, str]) -> dict[str, Any]:
    """Return the selection that an address holds; what is no op's number is none."""
    op = query.get("op", "")
    return {
        "run": query.get("run"),
        "op": int(op) if op.isdigit() else None,
        "module": query.get("module"),
        "finding": query.get("finding"),
        "filter": query.get("filter"),
    }


def _nowhere(path: str) -> Any:
    return empty(
        "There is no such page", f"Nothing is at {path[:120]!r}.", link_button("To the runs", "/runs"), order=1
    )


def _in_words(text: str) -> Any:
    return dmc.Stack(
        [
            dmc.Title("This page cannot be shown", order=1, className="hb-page-title"),
            problem(text, title="What happened"),
            dmc.Group([link_button("To the runs", "/runs", icon="runs")]),
        ]
    )
