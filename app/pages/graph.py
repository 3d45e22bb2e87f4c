"""The data-flow graph of a run, collapsed by module, laid out on the server, opened step by step."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import dash_cytoscape as cyto
import dash_mantine_components as dmc
from dash import Dash, Input, Output, State, dcc, html, no_update

from analyzer.errors import HotbenchError
from app.components.attributes import attributes
from app.components.card import card, page_heading
from app.components.client import client
from app.components.command import command_line
from app.components.empty import empty, note
from app.components.graph_parts import crumbs, group_details, matches, node_list, tool
from app.components.icons import icon
from app.components.links import link_button
from app.components.op_details import details, nothing_selected, wanted
from app.components.scheme import dark
from app.components.term import term
from app.derived.columns import read_columns
from app.derived.hierarchy import Hierarchy, read_hierarchy
from app.store import Store
from app.units import percent, plural
from app.views.graph import (
    Change,
    View,
    collapse,
    expand,
    first_view,
    node_of,
    open_alone,
    read_view,
    reveal,
    search,
    shown_place,
    write_view,
)
from app.views.graph_elements import elements, legend, stylesheet
from app.views.graph_scene import figures, make_scene
from app.views.operators import op_details
from app.web.context import context

PATH = "/graph"
TITLE = "Graph"
ICON = "graph"
NEEDS_RUN = True

_NOTHING = "Select a node to see what is in it. A double click opens or closes a group."


def layout(query: Mapping[str, str]) -> Any:
    """Return the graph with the op or module of the address in view."""
    if "run" not in query:
        return empty("No run yet", "Capture a workload on the Runs page.", link_button("To the runs", "/runs"), order=1)
    store = context().store
    run = store.find(query["run"], ("run",))
    hierarchy = read_hierarchy(store, run.id)
    # What the details read is loaded while the browser paints.
    threading.Thread(target=_prepare, args=(store, run.id), daemon=True).start()
    wished = _wished(hierarchy, query)
    change = Change(first_view(hierarchy))
    if wished is not None:
        change = reveal(hierarchy, change.view, wished, through_lists=False)
    chosen = None if wished is None else shown_place(hierarchy, change.view, wished)
    shown = picture(hierarchy, change)
    ops = int(hierarchy.ops[0])
    canvas = cyto.Cytoscape(
        id="graph-canvas",
        elements=shown["elements"],
        stylesheet=stylesheet(dark()),
        layout={"name": "preset", "fit": False},
        autoRefreshLayout=False,
        style={"width": "100%", "height": "100%"},
        minZoom=0.03,
        maxZoom=2.5,
        autoungrabify=True,
        boxSelectionEnabled=False,
        responsive=True,
    )
    frame = html.Div(
        [canvas, html.Div(id="graph-tip", className="hb-graph-tip", hidden=True)],
        className="hb-graph", role="img", **attributes(aria_label="Data-flow graph; the list below has the same nodes"),
    )  # fmt: skip
    spoken = [
        html.Div(shown["crumbs"], id="graph-crumbs", className="hb-maybe"),
        html.Div(shown["message"], id="graph-message", className="hb-maybe", role="status"),
        html.Div(id="graph-matches", className="hb-maybe", role="status"),
    ]
    main = card(dmc.Stack([_bar(), *spoken, frame, _legend(shown["hottest"])], gap="xs"))
    panel = card(html.Div(nothing_selected(_NOTHING), id="graph-details"), className="hb-side")
    nodes = card(html.Div(id="graph-list", style={"minHeight": "120px"}))
    return dmc.Stack(
        [
            page_heading("Graph", f"{run.name} · {plural(ops, 'op')} in one step · the data that flows between them"),
            wanted(),
            dcc.Store(id="graph-run", data=run.id),
            dcc.Store(id="graph-view", data=shown["view"]),
            dcc.Store(id="graph-act"),
            dcc.Store(id="graph-picked"),
            dcc.Store(id="graph-mark"),
            dcc.Store(id="graph-focus", data={"node": chosen, "first": chosen is None}),
            dcc.Store(id="graph-styles", data={"light": stylesheet(False), "dark": stylesheet(True)}),
            dmc.Grid(
                [
                    dmc.GridCol(main, span={"base": 12, "lg": 8.5}),
                    dmc.GridCol(panel, span={"base": 12, "lg": 3.5}),
                ],
                gutter="md",
            ),
            nodes,
            command_line(f"hotbench show {run.id} --ops 30"),
        ],
        gap="md",
    )


def _prepare(store: Store, run: str) -> None:
    try:
        read_columns(store, run)
    except HotbenchError:
        # The request that needs them says it.
        return


def _wished(hierarchy: Hierarchy, query: Mapping[str, str]) -> int | None:
    """Return the node that the address asks for."""
    op = query.get("op", "")
    return node_of(hierarchy, int(op) if op.isdigit() else None, query.get("module"))


def _bar() -> dmc.Group:
    search_box = dmc.TextInput(
        id="graph-search", placeholder="Find an op, module or line", debounce=250, leftSection=icon("search", 16),
        className="hb-operators-search", **attributes(aria_label="Find a node"),
    )  # fmt: skip
    return dmc.Group(
        [
            search_box,
            tool("hottest", "Hottest", "gauge"),
            tool("fit", "Fit", "fit"),
            tool("in", "Closer", "+"),
            tool("out", "Farther", "−"),
            tool("reset", "Start view", "undo"),
        ],
        gap="xs",
        className="hb-bar",
    )


def _legend(hottest: str) -> html.Div:
    return html.Div(
        [
            term("self time", "Self time"),
            html.Span(className="hb-graph-ramp", style={"--ramp-light": legend(False), "--ramp-dark": legend(True)}),
            html.Span(["none to the hottest node shown (", html.Span(hottest, id="graph-hottest"), ")"]),
            html.Span("Thicker lines carry more bytes; a dashed one is read in a loop's next turn."),
        ],
        className="hb-graph-legend",
    )


def picture(hierarchy: Hierarchy, change: Change) -> dict[str, Any]:
    """Return what a view looks like: elements, path and message."""
    scene = make_scene(hierarchy, change.view)
    message = None
    if change.message:
        acts = [tool("alone", "Open on its own", "expand", node=change.alone)] if change.alone is not None else []
        message = note(dmc.Group([change.message, *acts], gap="sm"), colour="orange", icon="warning")
    return {
        "view": write_view(change.view),
        "elements": elements(hierarchy, scene),
        "crumbs": crumbs(hierarchy, change.view),
        "message": message,
        "hottest": percent(scene.hottest),
    }


def act(hierarchy: Hierarchy, view: View, kind: str, node: int) -> Change:
    """Return the change that a click asks for."""
    if not 0 <= node < len(hierarchy.kinds):
        return Change(view)
    if kind == "toggle":
        return (collapse if node in view.opened else expand)(hierarchy, view, node)
    acts = {"expand": expand, "collapse": collapse, "reveal": reveal}
    if kind in acts:
        return acts[kind](hierarchy, view, node)
    if kind == "alone":
        return open_alone(hierarchy, node)
    return Change(first_view(hierarchy))


def register(app: Dash) -> None:
    """Declare opening and closing, the details, and finding."""

    @app.callback(
        Output("graph-view", "data"),
        Output("graph-canvas", "elements"),
        Output("graph-crumbs", "children"),
        Output("graph-message", "children"),
        Output("graph-hottest", "children"),
        Output("graph-focus", "data"),
        Input("graph-act", "data"),
        State("graph-view", "data"),
        State("graph-run", "data"),
        prevent_initial_call=True,
    )
    def _act(wish: Any, view: Any, run: str) -> tuple[Any, ...]:
        if not wish:
            return (no_update,) * 6
        hierarchy = read_hierarchy(context().store, run)
        before = read_view(hierarchy, view)
        node = int(wish.get("node") or 0)
        kind = str(wish.get("act"))
        change = act(hierarchy, before, kind, node)
        shown = picture(hierarchy, change)
        focus = {"node": node, "at": wish.get("at"), "first": change.view.root != before.root or kind == "reset"}
        drawn = no_update if change.view == before else shown["elements"]
        said = (shown["crumbs"], shown["message"], shown["hottest"])
        return shown["view"], drawn, *said, focus

    # After the picture: a browser takes as long for a list of so many buttons as for the picture itself.
    @app.callback(Output("graph-list", "children"), Input("graph-view", "data"), State("graph-run", "data"))
    def _list(view: Any, run: str) -> Any:
        hierarchy = read_hierarchy(context().store, run)
        return node_list(hierarchy, make_scene(hierarchy, read_view(hierarchy, view)))

    @app.callback(
        Output("graph-details", "children"),
        Output("graph-mark", "data"),
        Input("graph-picked", "data"),
        Input("selection", "data"),
        Input("graph-view", "data"),
        State("graph-run", "data"),
    )
    def _details(picked: Any, selection: Any, view: Any, run: str) -> tuple[Any, Any]:
        store = context().store
        hierarchy = read_hierarchy(store, run)
        node = _chosen(hierarchy, picked or {}, selection or {})
        if node is None:
            return nothing_selected(_NOTHING), None
        shown = shown_place(hierarchy, read_view(hierarchy, view), node)
        return _panel(store, run, hierarchy, node, shown, read_view(hierarchy, view)), {"node": shown}

    @app.callback(
        Output("graph-matches", "children"),
        Input("graph-search", "value"),
        State("graph-run", "data"),
        prevent_initial_call=True,
    )
    def _search(text: str | None, run: str) -> Any:
        hierarchy = read_hierarchy(context().store, run)
        return matches(hierarchy, search(hierarchy, text or ""), bool((text or "").strip()))

    client(
        app, "graphPicked", Output("selection", "data", allow_duplicate=True), Input("graph-picked", "data"),
        State("selection", "data"), prevent_initial_call=True,
    )  # fmt: skip
    client(app, "graphMark", Output("graph-tip", "title"), Input("graph-mark", "data"))
    client(app, "graphFocus", Output("graph-tip", "lang"), Input("graph-focus", "data"))
    client(app, "graphScheme", Output("graph-canvas", "stylesheet"), Input("colour-scheme", "data"),
           State("graph-styles", "data"), prevent_initial_call=True)  # fmt: skip


def _chosen(hierarchy: Hierarchy, picked: Mapping[str, Any], selection: Mapping[str, Any]) -> int | None:
    """Return the node to show: the picked one, unless another op or module was selected since."""
    op, module = selection.get("op"), selection.get("module")
    node = picked.get("node")
    if isinstance(node, int) and 0 <= node < len(hierarchy.kinds):
        same_op = op is None or op == hierarchy.op[node]
        same_module = not module or module == picked.get("module")
        if same_op and same_module:
            return node
    return node_of(hierarchy, op, module)


def _panel(store: Store, run: str, hierarchy: Hierarchy, node: int, shown: int | None, view: View) -> Any:
    parts: list[Any] = []
    if shown != node and node != view.root:
        parts.append(tool("reveal", "Show in the graph", "expand", node=node))
    op = int(hierarchy.op[node])
    if op < 0:
        return dmc.Stack([group_details(run, hierarchy, node, view), *parts], gap="sm")
    if not hierarchy.is_leaf(node):
        opened = node in view.opened
        parts.append(tool("toggle", "Close" if opened else "Open", "collapse" if opened else "expand", node=node))
        inside = f"{figures(hierarchy, node)} together with what it calls"
        parts.insert(0, dmc.Text(inside, size="sm", w="100%"))
    listed = link_button("Show in the list", "/operators", icon="operators", run=run, op=op)
    return dmc.Stack(
        [details(run, op_details(read_columns(store, run), op)), dmc.Group([*parts, listed], gap="xs")], gap="sm"
    )
