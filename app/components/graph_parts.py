"""Parts of the graph's page: the path to what is open, the list of nodes, a group's details, what a search found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import dash_mantine_components as dmc
from dash import html

from app.components.attributes import attributes
from app.components.badge import badge
from app.components.icons import icon
from app.components.links import link_button
from app.components.op_details import pairs
from app.components.term import term
from app.derived.hierarchy import Hierarchy
from app.derived.query import OpsQuery, query_text
from app.units import gigaflops, plural, printable
from app.views.graph import View
from app.views.graph_elements import KIND_WORDS
from app.views.graph_scene import Scene, figures

_LISTED = 25
_COLUMNS = (("Node", ""), ("What it is", "hb-graph-kind"), ("Self time", ""), ("", ""))


def tool(act: str, label: str, sign: str, *, node: int | None = None) -> html.Button:
    """Return a button that acts on the graph (assets/graph.js listens). sign: an icon's name, or one character."""
    names = attributes(data_graph_act=act, data_graph_node="" if node is None else str(node), aria_label=label)
    return html.Button(
        [sign] if len(sign) == 1 else [icon(sign, 16), label],
        type="button",
        className="hb-button hb-tool",
        title=label,
        **names,
    )


def crumbs(hierarchy: Hierarchy, view: View) -> Any:
    """Return the way from the whole step to what is open on its own; nothing while that is the whole step."""
    if view.root == 0:
        return None
    parts: list[Any] = []
    for node in hierarchy.ancestors(view.root):
        label = printable(hierarchy.labels[node])
        parts += [html.Li(_node_button("alone" if node else "reset", node, label))]
    parts.append(html.Li(html.Strong(printable(hierarchy.labels[view.root])), **attributes(aria_current="true")))
    return html.Nav(html.Ol(parts, className="hb-crumbs"), **attributes(aria_label="Path in the graph"))


def node_list(hierarchy: Hierarchy, scene: Scene) -> Any:
    """Return the shown nodes by self time, with buttons: all that the picture can do, without the picture."""
    leaves = sorted((node for node in scene.nodes if not node.opened), key=lambda node: (-node.share, node.node))
    boxes = [node for node in scene.nodes if node.opened]
    rows = [
        html.Tr(
            [
                html.Td(
                    _node_button("pick", node.node, node.label),
                    className="hb-graph-name",
                    **attributes(data_kind=KIND_WORDS[hierarchy.kinds[node.node]]),
                ),
                html.Td(KIND_WORDS[hierarchy.kinds[node.node]], className="hb-graph-kind"),
                html.Td(node.figures, className="hb-graph-figures"),
                html.Td(_open_button(hierarchy, node.node, node.opened)),
            ]
        )
        for node in [*leaves[:_LISTED], *boxes[:_LISTED]]
    ]
    hidden = max(len(leaves) - _LISTED, 0) + max(len(boxes) - _LISTED, 0)
    more = [dmc.Text(f"{plural(hidden, 'node')} more in the picture.", size="sm", c="dimmed")] if hidden else []
    head = html.Thead(html.Tr([html.Th(name, scope="col", className=css) for name, css in _COLUMNS]))
    table = html.Div(html.Table([head, html.Tbody(rows)], className="hb-graph-table"), className="hb-graph-scroll")
    title = dmc.Title(f"{plural(len(scene.nodes), 'node')} shown, hottest first", order=2, className="hb-section-title")
    return dmc.Stack([title, table, *more], gap="xs")


def _open_button(hierarchy: Hierarchy, node: int, opened: bool) -> Any:
    if hierarchy.is_leaf(node):
        return None
    return _node_button("toggle", node, "Close" if opened else "Open", about=printable(hierarchy.labels[node]))


def _node_button(act: str, node: int, label: str, about: str = "") -> html.Button:
    names = attributes(data_graph_act=act, data_graph_node=str(node))
    if about:
        names |= attributes(aria_label=f"{label} {about}")
    return html.Button(label, type="button", className="hb-op-link", **names)


def group_details(run: str, hierarchy: Hierarchy, node: int, view: View) -> dmc.Stack:
    """Return what is known of a group, and what can be done with it."""
    kind = hierarchy.kinds[node]
    marks = [badge(KIND_WORDS[kind])]
    if hierarchy.times[node] > 1:
        marks.append(badge(f"×{hierarchy.times[node]:,}"))
    lines: list[tuple[Any, Any]] = [
        (term("self time"), figures(hierarchy, node)),
        ("ops", f"{hierarchy.ops[node]:,}"),
        ("work", gigaflops(float(hierarchy.flops[node]))),
    ]
    if hierarchy.paths[node]:
        lines.append(("module", printable(hierarchy.paths[node])))
    if hierarchy.sources[node]:
        lines.append(("line", html.Code(printable(hierarchy.sources[node]))))
    opened = node in view.opened
    acts: list[Any] = []
    if node != view.root:
        acts.append(tool("toggle", "Close" if opened else "Open", "collapse" if opened else "expand", node=node))
        acts.append(tool("alone", "Open on its own", "fit", node=node))
    chosen = ops_filter(hierarchy, node)
    if chosen is not None:
        acts.append(link_button("Its ops", "/operators", icon="operators", run=run, filter=query_text(chosen)))
    title = dmc.Title(printable(hierarchy.labels[node]), order=3, className="hb-section-title hb-break")
    return dmc.Stack([title, dmc.Group(marks, gap=6), pairs(lines), dmc.Group(acts, gap="xs")], gap="xs")


def ops_filter(hierarchy: Hierarchy, node: int) -> OpsQuery | None:
    """Return the filter that chooses a group's ops in the list; None where none does exactly that."""
    hottest = (("self_seconds", "desc"),)
    if hierarchy.kinds[node] == "module":
        path = hierarchy.paths[node]
        conditions = [{"type": "equals", "filter": path}, {"type": "startsWith", "filter": f"{path}."}]
        model = {"filterType": "text", "operator": "OR", "conditions": conditions}
        return OpsQuery("op", "", {"module": model}, hottest)
    if hierarchy.kinds[node] == "phase":
        model = {"filterType": "text", "type": "equals", "filter": hierarchy.labels[node]}
        return OpsQuery("op", "", {"phase": model}, hottest)
    return None


def matches(hierarchy: Hierarchy, found: Sequence[int], asked: bool) -> Any:
    """Return the nodes that a search found, each with its place."""
    if not asked:
        return None
    if not found:
        return dmc.Text("No node has that in its name, module or line.", size="sm", c="dimmed")
    lines = []
    for node in found:
        above = " › ".join(printable(hierarchy.labels[other]) for other in hierarchy.ancestors(node)[1:])
        about = [html.Span(f" {figures(hierarchy, node)}", className="hb-graph-figures")]
        where = [html.Span(f" in {above}", className="hb-graph-kind")] if above else []
        lines.append(html.Li([_node_button("find", node, printable(hierarchy.labels[node])), *about, *where]))
    return html.Ul(lines, className="hb-graph-matches", **attributes(aria_label="Nodes found"))
