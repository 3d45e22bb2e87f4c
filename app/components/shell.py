"""The frame around every page: header, navigation, and the parts that all pages share."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import dash_mantine_components as dmc
from dash import ALL, Dash, Input, Output, State, dcc, html

from app.components.attributes import attributes
from app.components.client import client
from app.components.figure import templates
from app.components.icons import icon
from app.components.navigation import Place, groups
from app.web.access import Person

FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Liberation Sans", Arial, sans-serif'
MONO = 'ui-monospace, SFMono-Regular, Menlo, Consolas, "Liberation Mono", monospace'
THEME = {
    "primaryColor": "indigo",
    "primaryShade": {"light": 8, "dark": 8},
    "defaultRadius": "md",
    "autoContrast": True,
    "fontFamily": FONT,
    "fontFamilyMonospace": MONO,
    "headings": {"fontFamily": FONT, "fontWeight": "650"},
    "cursorType": "pointer",
}
NAVBAR = {"width": 216, "breakpoint": "sm", "collapsed": {"mobile": True}}
NOTHING_SELECTED = {"run": None, "op": None, "module": None, "finding": None, "filter": None}


def layout(places: Sequence[Place], person: Person, login: bool, jobs_button: Any) -> dmc.MantineProvider:
    """Return the frame with an empty page in it; the router fills it.

    login: whether this server has users; without, nobody can log out.
    jobs_button: app.components.jobs.header_button().
    """
    header = dmc.AppShellHeader(_header(person, login, jobs_button), className="hb-header")
    navbar = dmc.AppShellNavbar(_navigation(places), p="xs", className="hb-navbar", id="navigation-bar")
    page = html.Div(_opening(), id="page", tabIndex=-1)
    frame = dmc.AppShell(
        [header, navbar, dmc.AppShellMain(page, id="main")],
        header={"height": 56},
        navbar=NAVBAR,
        padding="md",
        id="shell",
    )
    return dmc.MantineProvider(
        [*_shared(places), html.A("Skip to the content", href="#main", className="hb-skip"), frame],
        theme=THEME,
        defaultColorScheme="auto",
        id="theme",
    )


def _opening() -> html.Div:
    """Return what stands in the page's place until it comes; css shows it only where that takes a while."""
    return html.Div([html.Span("Opening the page", className="hb-hidden"), *(html.Div() for _ in range(3))],
                    className="hb-first", role="status")  # fmt: skip


def _shared(places: Sequence[Place]) -> list[Any]:
    """Return what has no place on the screen: the address, and the stores that every page may use."""
    return [
        dcc.Location(id="address", refresh="callback-nav"),
        dcc.Store(id="visit"),
        dcc.Store(id="selection", data=NOTHING_SELECTED),
        dcc.Store(id="places", data=[{"path": place.path, "needs_run": place.needs_run} for place in places]),
        dcc.Store(id="page-title"),
        dcc.Store(id="job-events", data={"version": 0, "jobs": {}}),
        dcc.Store(id="jobs-changed", data={"version": 0, "job": None, "state": None}),
        dcc.Store(id="colour-scheme"),
        html.Div(id="figure-templates", hidden=True, **attributes(data_templates=json.dumps(templates()))),
        html.Div(id="notifications"),
        dmc.NotificationContainer(id="notify", position="bottom-right", autoClose=8000),
    ]


def _header(person: Person, login: bool, jobs_button: Any) -> dmc.Group:
    burger = dmc.Burger(id="burger", size="sm", hiddenFrom="sm", opened=False, **attributes(aria_label="Menu"))
    name = dmc.Anchor(
        [icon("logo", 24), html.Span("Hotbench")], href="/", className="hb-name", underline="never", id="home"
    )
    switcher = dmc.Select(
        id="run-switcher",
        data=[],
        searchable=True,
        allowDeselect=False,
        placeholder="Choose a run",
        nothingFoundMessage="No such run",
        leftSection=icon("runs", 16),
        maxDropdownHeight=420,
        className="hb-switcher",
        comboboxProps={"width": "max(100%, 320px)", "position": "bottom-start"},
        **attributes(aria_label="Run"),
    )
    scheme = dmc.ColorSchemeToggle(
        lightIcon=icon("moon"), darkIcon=icon("sun"), variant="default", size="lg", id="scheme-toggle",
        **attributes(aria_label="Light or dark"),
    )  # fmt: skip
    right = dmc.Group([jobs_button, scheme, *([_account(person)] if login else [])], gap="xs", wrap="nowrap")
    return dmc.Group(
        [dmc.Group([burger, name], gap="xs", wrap="nowrap"), switcher, right],
        justify="space-between", h="100%", px="md", gap="sm", wrap="nowrap",
    )  # fmt: skip


def _account(person: Person) -> dmc.Menu:
    target = dmc.ActionIcon(
        icon("person"), variant="default", size="lg", id="account", **attributes(aria_label=f"Account of {person.name}")
    )
    leave = html.Form(
        html.Button([icon("logout", 16), "Log out"], type="submit", className="hb-menu-button"),
        action="/logout",
        method="post",
    )
    return dmc.Menu(
        [
            dmc.MenuTarget(target),
            dmc.MenuDropdown([dmc.MenuLabel(f"{person.name}, {person.role}"), leave]),
        ],
        position="bottom-end",
        width=200,
    )


def _navigation(places: Sequence[Place]) -> html.Nav:
    children: list[Any] = []
    for title, members in groups(places):
        if title:
            children.append(html.Div(title, className="hb-nav-group"))
        children += [
            dmc.NavLink(
                label=place.title,
                href=place.path,
                leftSection=icon(place.icon),
                id={"type": "navigation", "path": place.path},
                className="hb-nav-link",
            )
            for place in members
        ]
    return html.Nav(children, **attributes(aria_label="Pages"))


def register(app: Dash) -> None:
    """Declare what the frame does in the browser; see assets/address.js and assets/scheme.js."""

    everywhere = {"type": "navigation", "path": ALL}
    client(app, "visit", Output("visit", "data"), Input("address", "pathname"), Input("address", "search"))
    client(app, "mirror", Input("selection", "data"))
    client(
        app,
        "navigation",
        [Output(everywhere, "href"), Output(everywhere, "active")],
        Input("visit", "data"), Input("selection", "data"),
        State("places", "data"),
    )  # fmt: skip
    client(app, "title", Input("page-title", "data"))
    client(app, "scheme", Output("colour-scheme", "data"), Input("theme", "id"))
    client(app, "shownRun", Output("run-switcher", "value"), Input("selection", "data"), Input("run-switcher", "data"))
    client(
        app,
        "switchRun",
        Input("run-switcher", "value"),
        State("selection", "data"),
        State("places", "data"),
        prevent_initial_call=True,
    )
    client(
        app,
        "burger",
        [Output("shell", "navbar"), Output("burger", "opened")],
        Input("burger", "opened"), Input("visit", "data"), State("shell", "navbar"),
        prevent_initial_call=True,
    )  # fmt: skip
