"""A fused candidate region by region: a grid of all, and everything known of the one that is chosen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import dash_mantine_components as dmc
from dash import dcc, html

from app.components.badge import badge, origin_badge
from app.components.card import section
from app.components.command import copy_button
from app.components.empty import note
from app.components.facts import facts
from app.components.figure import figure
from app.components.grid import grid
from app.components.links import link
from app.components.table import table
from app.figures.roofline import points_of, roofline
from app.reports.regions import in_order
from app.units import MISSING, digits, duration, gigaflops, mebibytes, milliseconds, plural, ratio
from app.views.regions import RegionsView, RegionView

if TYPE_CHECKING:
    from optimizers.fusion.alternatives import Alternative
    from optimizers.fusion.errors import Errors

GRID, DETAIL, SHOWN = "regions-grid", "regions-detail", "regions-of"
MOST_SOURCE = 60_000
"""So many characters of a generated source are sent to the page."""
_ABOUT = (
    "Each region is a run of ops that one generated kernel replaces. Every way was timed on the values that the model "
    "really has, and the fastest stays; choose a region to see its ops, errors, roofline and code."
)


def regions_section(view: RegionsView, run: str) -> dmc.Paper:
    """Return the card of all regions; the detail below the grid is filled by a callback."""
    kept = [region for region in view.regions if region.kept]
    left = len(view.regions) - len(kept)
    words = f"{plural(len(kept), 'kernel')} in the program" + (f", {left:,} left to the library" if left else "")
    return section(
        "Regions",
        facts(_totals(view)),
        *_whole(view),
        *([note(f"{view.problem}.", "Not every region is proven")] if view.problem else []),
        dmc.Text(words, size="sm", fw=600),
        _grid(view),
        html.Div(id=DETAIL, className="hb-live"),
        dcc.Store(id=SHOWN, data={"experiment": view.experiment, "run": run}),
        text=_ABOUT,
        right=origin_badge(False),
        id="section-regions",
    )


def _totals(view: RegionsView) -> list[tuple[Any, Any, Any]]:
    kept = [region for region in view.regions if region.kept]
    measured = [region.measured for region in kept if region.measured is not None]
    predicted = [region.predicted for region in kept if region.predicted is not None]
    rows: list[tuple[Any, Any, Any]] = [
        ("Ops replaced", f"{sum(region.ops for region in kept):,}", f"by {plural(sum(r.calls for r in kept), 'call')}"),
        ("Saved by the kernels, measured", milliseconds(sum(measured)) if measured else MISSING, "of a step"),
        ("Saved, predicted", milliseconds(sum(predicted)) if predicted else MISSING, "before anything was built"),
    ]
    if view.seconds:
        stages = ", ".join(f"{name} {duration(value)}" for name, value in view.seconds.items())
        rows.append(("Applying took", duration(sum(view.seconds.values())), stages))
    return rows


def _whole(view: RegionsView) -> list[Any]:
    if not view.whole:
        return []
    heading = dmc.Title("Ways to run the whole step", order=3, className="hb-small-title")
    return [html.Div([heading, ways_table(view.whole, "Ways to run the whole step")])]


COLUMNS: tuple[tuple[str, str, int, bool], ...] = (
    ("title", "Region", 186, False),
    ("phase", "Phase", 104, False),
    ("where", "Module", 140, False),
    ("state", "Outcome", 100, False),
    ("ops", "Ops", 70, True),
    ("calls", "Calls", 74, True),
    ("eager", "Eager, µs", 102, True),
    ("fused", "Fused, µs", 104, True),
    ("ratio", "Gain, ×", 88, True),
    ("predicted", "Predicted, µs", 130, True),
    ("measured", "Saved, µs", 104, True),
    ("ulp", "ULP", 76, True),
    ("eager_ulp", "Eager ULP", 104, True),
    ("kernel", "Kernel", 220, False),
)
"""(field, heading, width, whether it is a number)"""


def _grid(view: RegionsView) -> Any:
    training = any(region.phase for region in view.regions)
    definitions = [_definition(*column) for column in COLUMNS if training or column[0] != "phase"]
    rows = [grid_row(region) for region in in_order(view.regions)]
    height = min(440, 52 + 38 * max(len(rows), 1) + 18)
    return grid(
        GRID,
        definitions,
        "Regions",
        rows=rows,
        options={"rowSelection": {"mode": "singleRow", "checkboxes": False, "enableClickSelection": True}},
        height=f"{height}px",
        selectedRows={"ids": [rows[0]["id"]]} if rows else None,
    )


_MEANINGS = {
    "ops": "Ops that all its calls in a step replace",
    "calls": "Calls in a step",
    "eager": "Median time of one call of the ops that it replaces",
    "fused": "Median time of one call of the kernel",
    "predicted": "What the plan predicted that it saves of a step",
    "measured": "What it saves of a step: calls times the difference",
    "ulp": "Median error against float64, in units in the last place",
    "eager_ulp": "The same of the ops that it replaces",
}


def _definition(field: str, heading: str, width: int, number: bool) -> dict[str, Any]:
    definition: dict[str, Any] = {"field": field, "headerName": heading, "width": width}
    if number:
        shown = {"function": "params.value == null ? '–' : d3.format(',.3~r')(params.value)"}
        return definition | {"type": "rightAligned", "valueFormatter": shown, "headerTooltip": _MEANINGS.get(field, "")}
    filtered = {} if field in ("phase", "state") else {"filter": "agTextColumnFilter"}
    return definition | {"tooltipField": field, **filtered}


def grid_row(region: RegionView) -> dict[str, Any]:
    """Return one row: numbers in the unit of their heading, None where nothing is known."""
    eager, fused = region.way("eager"), region.way("fused")
    return {
        "id": region.key,
        "phase": region.phase or MISSING,
        "kernel": region.kernel,
        "title": region.title,
        "where": ", ".join(region.modules) or MISSING,
        "state": "kept" if region.kept else "library",
        "ops": region.ops,
        "calls": region.calls,
        "eager": _microseconds(eager.seconds if eager else None),
        "fused": _microseconds(fused.seconds if fused else None),
        "ratio": fused.ratio if fused else None,
        "predicted": _microseconds(region.predicted),
        "measured": _microseconds(region.measured),
        "ulp": region.errors.median_ulp if region.errors else None,
        "eager_ulp": region.eager_errors.median_ulp if region.eager_errors else None,
    }


def _microseconds(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1e6


def ways_table(ways: Sequence[Alternative], label: str) -> html.Div:
    """Return every way that was measured, with which one is kept and why the others are not."""
    # One unit for the whole column.
    small = max((way.seconds or 0.0 for way in ways), default=0.0) < 1e-2
    time_of = f"Time, {'µs' if small else 'ms'}"
    rows = []
    for way in ways:
        interval = MISSING if way.low is None or way.high is None else f"{ratio(way.low)} to {ratio(way.high)}"
        gain = ratio(way.ratio) + (f" against {way.against}" if way.against != "eager" and way.ratio else "")
        outcome = html.Div(badge("kept", "teal") if way.kept else badge("not kept"), className="hb-outcome")
        time = MISSING if way.seconds is None else f"{digits(way.seconds * (1e6 if small else 1e3))}"
        rounds = f"{way.rounds:,}" if way.rounds else MISSING
        rows.append(
            [way.name, time, gain, interval, rounds, outcome, html.Div(way.reason or MISSING, className="hb-why")]
        )
    columns = ("Way", time_of, "Faster than eager", "95 % interval", "Rounds", "Outcome", "Why")
    return table(label, columns, rows, numeric=columns[1:5])


def region_detail(view: RegionsView, region: RegionView, run: str, source: str, acts: Any) -> dmc.Stack:
    """Return everything known of one region. source: its generated code. acts: the button that exports it."""
    state = badge("kept", "teal") if region.kept else badge("left to the library")
    title = dmc.Title(region.title, order=3, className="hb-section-title hb-break")
    marks = [state, badge(region.kind), *([badge(region.phase)] if region.phase else []), html.Code(region.kernel)]
    head = dmc.Stack([title, dmc.Group(marks, gap=6)], gap=6)
    parts: list[Any] = [dmc.Divider(), head]
    if region.reason:
        parts.append(dmc.Text(f"{'Kept although' if region.kept else 'Not kept'}: {region.reason}.", size="sm"))
    parts += [facts(_facts(region)), _ops(region, run), _titled("Every way, measured", _ways(region))]
    parts += [_errors(region), *_roofline(view, region)]
    if source:
        parts.append(_source(source, region.kernel))
    return dmc.Stack([*parts, acts], gap="md")


def _ways(region: RegionView) -> Any:
    if not region.ways:
        return note("This kernel was measured as part of the whole program alone.")
    return ways_table(region.ways, f"Ways to compute {region.kernel}")


def _titled(title: str, *content: Any) -> html.Div:
    return html.Div([dmc.Title(title, order=4, className="hb-small-title"), *content])


def _facts(region: RegionView) -> list[tuple[Any, Any, Any]]:
    each = f"{plural(region.calls, 'call')} a step" if region.kept else "not in the program"
    rows: list[tuple[Any, Any, Any]] = [("Ops replaced", f"{region.ops:,}", each)]
    if region.measured is not None:
        rows.append(("Saved, measured", milliseconds(region.measured), "of a step"))
    if region.predicted is not None:
        rows.append(("Saved, predicted", milliseconds(region.predicted), "from the run alone"))
    if region.bytes_after:
        part = f"of {mebibytes(region.bytes_before)} before"
        rows.append(("Bytes moved by a call", mebibytes(region.bytes_after), part))
    if region.flops:
        rows.append(("Work of a call", gigaflops(region.flops), "one FLOP for each element of an elementwise op"))
    return rows


def _ops(region: RegionView, run: str) -> html.Div:
    counted = [name if count == 1 else f"{name} ×{count:,}" for name, count in region.names]
    lines: list[Any] = [html.Div([html.Span("Ops: ", className="hb-line-label"), ", ".join(counted) or "none"])]
    if region.modules:
        lines.append(html.Div([html.Span("Modules: ", className="hb-line-label"), ", ".join(region.modules)]))
    if region.sources:
        lines.append(html.Div([html.Span("Lines: ", className="hb-line-label"), html.Code(", ".join(region.sources))]))
    if region.first_op is not None:
        lines.append(link("The first of them in Operators", "/operators", run=run, op=str(region.first_op)))
    return html.Div(lines, className="hb-break")


def _errors(region: RegionView) -> html.Div:
    if region.errors is None or (region.unproven and not region.errors.values):
        return _titled("Errors against float64", note(region.unproven or "Nothing was compared."))
    rows = [_error_row("fused", region.errors)]
    rows += [_error_row("eager", region.eager_errors)] if region.eager_errors is not None else []
    columns = ("Way", "Median ULP", "99 % below", "Largest ULP", "Relative", "Values", "Misplaced NaN or infinity")
    content: list[Any] = [table("Errors against float64", columns, rows, numeric=columns[1:])]
    if region.unproven:
        content.append(dmc.Text(region.unproven, size="sm", c="dimmed"))
    about = (
        "On the values that the region met in a run of the model, each way on its own. ULP: distance over the spacing "
        "of float32 (or float64) at the exact value, so that it is large where terms cancel; "
        "relative: the largest distance over the largest value."
    )
    return _titled("Errors against float64", *content, dmc.Text(about, size="sm", c="dimmed"))


def _error_row(name: str, errors: Errors) -> list[str]:
    ulp = [digits(value) for value in (errors.median_ulp, errors.p99_ulp, errors.max_ulp)]
    return [name, *ulp, f"{errors.max_rel:.2g}", f"{errors.values:,}", f"{errors.elsewhere + errors.unequal:,}"]


def _roofline(view: RegionsView, region: RegionView) -> list[Any]:
    points = points_of(view)
    point = next((item for item in points if item.name == region.key), None)
    if point is None:
        return []
    drawn = roofline(points, view.flops_per_second, view.bytes_per_second, region.key)
    words = (
        f"From {digits(point.intensity_before)} to {digits(point.intensity_after)} FLOP a byte, "
        f"from {digits(point.flops_before / 1e9)} to {digits(point.flops_after / 1e9)} GFLOP/s"
    )
    if view.flops_per_second and view.bytes_per_second:
        ceiling = min(view.flops_per_second, point.intensity_after * view.bytes_per_second)
        share = point.flops_after / ceiling
        words += f": {100 * share:.0f} % of what memory and processor allow there"
        if share > 1:
            bound = ceiling < view.flops_per_second
            why = "what it touches lies in the cache" if bound else "the ceiling was measured with a slower product"
            words += f" (more than all: {why})"
    about = f"{words}. Ceilings {view.peak_source or 'of the device are not known'}; other regions are pale."
    id = {"part": "region-roofline", "experiment": view.experiment}
    return [
        _titled(
            "Roofline, before and after",
            figure(drawn, id, "Roofline, before and after", text=words),
            dmc.Text(about, size="sm", c="dimmed"),
        )
    ]


def _source(source: str, kernel: str) -> html.Details:
    shown = source[:MOST_SOURCE]
    cut = f" (the first {MOST_SOURCE:,} of {len(source):,} characters; the export has all)"
    lines = source.count("\n") + 1
    words = f"Generated source, {plural(lines, 'line')}" + (cut if len(source) > MOST_SOURCE else "")
    code = html.Pre(html.Code(shown), className="hb-code hb-region-code", tabIndex=0)
    box = html.Div([code, copy_button(shown, f"Copy the source of {kernel}")], className="hb-code-box")
    return html.Details([html.Summary(words), box], className="hb-more")
