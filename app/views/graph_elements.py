"""The scene as Cytoscape draws it: elements with their colours in both schemes, and the two stylesheets."""

from __future__ import annotations

import math
from typing import Any

from app.derived.hierarchy import Hierarchy
from app.units import mebibytes, plural, printable
from app.views.graph_scene import Scene, ShownEdge, ShownNode

Colour = tuple[int, int, int]
LIGHT_RAMP: tuple[Colour, ...] = ((255, 249, 240), (255, 213, 153), (245, 132, 38), (193, 66, 8))
DARK_RAMP: tuple[Colour, ...] = ((43, 40, 38), (98, 58, 24), (190, 92, 22), (255, 160, 84))
# Black and no softer: on the ramp's middle nothing else has a contrast of 4.5.
_INK, _PAPER = "#000000", "#ffffff"
_FONT = "system-ui, -apple-system, Segoe UI, Roboto, Liberation Sans, Arial, sans-serif"
KIND_WORDS = {
    "run": "whole step",
    "phase": "phase",
    "module": "module",
    "op": "op",
    "own": "op without what it calls",
    "repeat": "loop",
    "position": "op of a loop, all turns",
    "line": "ops of one line",
    "range": "part of a list",
}


def elements(hierarchy: Hierarchy, scene: Scene) -> list[dict[str, Any]]:
    """Return the boxes first, the nodes, then the edges."""
    nodes = [_node(hierarchy, node, scene.hottest) for node in scene.nodes]
    centres = {node.node: (node.x, node.y) for node in scene.nodes}
    return nodes + [_edge(hierarchy, edge, centres) for edge in scene.edges]


def node_id(node: int) -> str:
    """Return the id of a node's element."""
    return f"n{node}"


def _node(hierarchy: Hierarchy, node: ShownNode, hottest: float) -> dict[str, Any]:
    kind = hierarchy.kinds[node.node]
    heat = node.share / hottest if hottest else 0.0
    light, dark = heat_colour(LIGHT_RAMP, heat), heat_colour(DARK_RAMP, heat)
    opens = not node.opened and not hierarchy.is_leaf(node.node)
    text = f"{node.label}  ·  {node.figures}" if node.opened else f"{node.label}\n{node.figures}"
    return {
        "data": {
            "id": node_id(node.node),
            "node": node.node,
            "op": int(hierarchy.op[node.node]),
            "module": hierarchy.paths[node.node] if kind == "module" else "",
            "text": text,
            "hint": hint(hierarchy, node),
            "w": node.width,
            "h": node.height,
            "light": light,
            "dark": dark,
            "lightInk": readable_ink(light),
            "darkInk": readable_ink(dark),
            "depth": node.depth,
            "share": round(node.share, 6),
            "opens": opens,
        },
        "position": {"x": round(node.x, 1), "y": round(node.y, 1)},
        "classes": "box" if node.opened else "group" if opens else "leaf",
        "grabbable": False,
    }


def hint(hierarchy: Hierarchy, node: ShownNode) -> str:
    """Return what shows over a node: its whole name, what it is, how much is in it, what a double click does."""
    kind = KIND_WORDS[hierarchy.kinds[node.node]]
    if hierarchy.times[node.node] > 1:
        kind = f"{kind}, {plural(int(hierarchy.times[node.node]), 'turn')}"
    lines = [printable(hierarchy.labels[node.node]), kind, node.figures]
    if hierarchy.ops[node.node] > 1:
        lines.append(plural(int(hierarchy.ops[node.node]), "recorded op"))
    if hierarchy.sources[node.node]:
        lines.append(printable(hierarchy.sources[node.node]))
    if node.opened:
        lines.append("Double click: close")
    elif not hierarchy.is_leaf(node.node):
        lines.append("Double click: open")
    return "\n".join(lines)


def _edge(hierarchy: Hierarchy, edge: ShownEdge, centres: dict[int, tuple[float, float]]) -> dict[str, Any]:
    names = " → ".join(printable(hierarchy.labels[node]) for node in (edge.source, edge.target))
    words = f"{plural(edge.tensors, 'tensor')}, {mebibytes(edge.nbytes)}"
    data: dict[str, Any] = {
        "id": f"e{edge.source}-{edge.target}",
        "source": node_id(edge.source),
        "target": node_id(edge.target),
        "hint": f"{names}\n{words}" + ("\nread in the next turn" if edge.backward else ""),
        # A hundred times the bytes is one and a half pixels more.
        "weight": round(1.2 + 0.33 * math.log10(max(edge.nbytes, 1024) / 1024), 2),
    }
    classes = ["back"] if edge.backward else []
    if edge.bends:
        weights, distances = relative(edge.bends, centres[edge.source], centres[edge.target])
        data |= {"weights": weights, "distances": distances}
        classes.append("bent")
    return {"data": data, "classes": " ".join(classes)}


def relative(
    bends: tuple[tuple[float, float], ...], source: tuple[float, float], target: tuple[float, float]
) -> tuple[str, str]:
    """Return points as Cytoscape wants them: how far along the line between the ends, and how far beside it."""
    dx, dy = target[0] - source[0], target[1] - source[1]
    length = math.hypot(dx, dy) or 1.0
    along = [((x - source[0]) * dx + (y - source[1]) * dy) / length**2 for x, y in bends]
    beside = [((y - source[1]) * dx - (x - source[0]) * dy) / length for x, y in bends]
    return " ".join(f"{value:.4f}" for value in along), " ".join(f"{value:.1f}" for value in beside)


def heat_colour(ramp: tuple[Colour, ...], heat: float) -> str:
    """Return a colour of the ramp for a heat from 0 to 1."""
    place = min(max(heat, 0.0), 1.0) * (len(ramp) - 1)
    step = min(int(place), len(ramp) - 2)
    mixed = [round(a + (b - a) * (place - step)) for a, b in zip(ramp[step], ramp[step + 1], strict=True)]
    return "#" + "".join(f"{part:02x}" for part in mixed)


def readable_ink(ground: str) -> str:
    """Return dark or white text, whichever stands out more on a ground."""
    lightness = luminance(ground)
    return _INK if (lightness + 0.05) ** 2 > (luminance(_INK) + 0.05) * 1.05 else _PAPER


def luminance(colour: str) -> float:
    """Return the relative luminance of "#rrggbb". Source: WCAG 2.2."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def stylesheet(dark: bool) -> list[dict[str, Any]]:
    """Return the stylesheet of one scheme."""
    scheme = "dark" if dark else "light"
    line, edge, box, faint, mark = (
        ("#737c88", "#7d8794", "#262a30", "#c9ced6", "#91a7ff") if dark else (
            "#8a93a0", "#8790a0", "#f4f6f9", "#3b4452", "#3b5bdb")
    )  # fmt: skip
    return [
        _rule("node", {
            "shape": "round-rectangle", "width": "data(w)", "height": "data(h)", "label": "data(text)",
            "background-color": f"data({scheme})", "color": f"data({scheme}Ink)", "border-width": 1,
            "border-color": line, "font-family": _FONT, "font-size": 12.5, "text-wrap": "wrap",
            "text-valign": "center", "text-halign": "center", "line-height": 1.35, "z-index-compare": "manual",
            "z-index": 20, "overlay-opacity": 0, "min-zoomed-font-size": 5,
        }),
        _rule("node.group", {"border-width": 2, "border-style": "double", "border-color": line}),
        _rule("node.box", {
            "background-color": box, "background-opacity": 0.65, "color": faint, "font-weight": 600,
            "text-valign": "top", "text-margin-y": 29, "z-index": "data(depth)", "border-width": 1,
            "border-style": "solid", "text-wrap": "none",
        }),
        _rule("edge", {
            "width": "data(weight)", "line-color": edge, "target-arrow-color": edge, "target-arrow-shape": "triangle",
            "arrow-scale": 0.8, "curve-style": "straight", "source-endpoint": "0 50%", "target-endpoint": "0 -50%",
            "z-index-compare": "manual", "z-index": 10, "opacity": 0.85, "overlay-opacity": 0,
        }),
        _rule("edge.bent", {
            "curve-style": "unbundled-bezier", "edge-distances": "node-position",
            "control-point-weights": "data(weights)", "control-point-distances": "data(distances)",
        }),
        _rule("edge.back", {
            "line-style": "dashed", "source-endpoint": "0 -50%", "target-endpoint": "0 50%",
        }),
        _rule(".marked", {"border-width": 4, "border-style": "solid", "border-color": mark}),
        _rule("edge.near", {"line-color": mark, "target-arrow-color": mark, "opacity": 1, "z-index": 15}),
    ]  # fmt: skip


def _rule(selector: str, style: dict[str, Any]) -> dict[str, Any]:
    return {"selector": selector, "style": style}


def legend(dark: bool) -> str:
    """Return the ramp as a CSS gradient."""
    ramp = DARK_RAMP if dark else LIGHT_RAMP
    return f"linear-gradient(to right, {', '.join(heat_colour(ramp, step / 6) for step in range(7))})"
