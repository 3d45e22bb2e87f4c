"""A fused candidate's regions as tables of a report: what each replaced, every way measured, errors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from app.reports.document import Table
from app.units import MISSING, digits, ratio
from app.views.regions import RegionsView, RegionView

if TYPE_CHECKING:
    from optimizers.fusion.alternatives import Alternative
    from optimizers.fusion.errors import Errors

CAPTION = "Regions, each measured against the ops that it replaces"
ERRORS = "Errors of the regions against float64"
ROOFLINE = "roofline"
"""Key of the figure that stands beside the tables."""
_MOST_ROWS = 40


def region_tables(view: RegionsView) -> list[Table]:
    """Return the regions' times and their errors, those that save most first."""
    shown = in_order(view.regions)[:_MOST_ROWS]
    more = f" (the first {len(shown)} of {len(view.regions):,})" if len(view.regions) > len(shown) else ""
    columns = ("Region", "Kernel", "Modules", "Ops", "Calls", "Eager, µs", "Fused, µs", "Gain", "95 % interval",
               "Outcome")  # fmt: skip
    tables = [Table(CAPTION + more, columns, tuple(_times(region) for region in shown), columns[3:9])]
    others = [(region, way) for region in shown for way in region.ways if way.name not in ("eager", "fused")]
    if others:
        names = ("Region", "Way", "Time, µs", "Gain", "Outcome", "Why")
        rows = tuple(_other(region, way) for region, way in others)
        tables.append(Table("Further ways that were measured", names, rows, names[2:4]))
    proven = [region for region in shown if region.errors is not None]
    if proven:
        measures = (
            "Region",
            "Median ULP",
            "of eager",
            "99 % below",
            "Largest ULP",
            "of eager's",
            "Relative",
            "eager's",
        )
        tables.append(Table(ERRORS + more, measures, tuple(_errors(region) for region in proven), measures[1:]))
    return tables


def in_order(regions: Sequence[RegionView]) -> list[RegionView]:
    """Return the kept regions, those that save most first, then the others."""
    return sorted(regions, key=lambda region: (not region.kept, -(region.measured or 0.0)))


def _times(region: RegionView) -> tuple[str, ...]:
    eager, fused = region.way("eager"), region.way("fused")
    interval = MISSING
    if fused is not None and fused.low is not None and fused.high is not None:
        interval = f"{ratio(fused.low)} to {ratio(fused.high)}"
    outcome = "kept" if region.kept else f"library: {region.reason}" if region.reason else "library"
    return (
        f"{region.phase}: {region.title}" if region.phase else region.title,
        region.kernel,
        ", ".join(region.modules) or MISSING,
        f"{region.ops:,}",
        f"{region.calls:,}",
        _microseconds(eager),
        _microseconds(fused),
        ratio(fused.ratio if fused is not None else None),
        interval,
        outcome,
    )


def _microseconds(way: Alternative | None) -> str:
    return MISSING if way is None or way.seconds is None else digits(way.seconds * 1e6)


def _other(region: RegionView, way: Alternative) -> tuple[str, ...]:
    outcome = "kept" if way.kept else "not kept"
    return (region.title, way.name, _microseconds(way), ratio(way.ratio), outcome, way.reason or MISSING)


def _errors(region: RegionView) -> tuple[str, ...]:
    ours, eager = region.errors, region.eager_errors
    pairs = (("median_ulp", True), ("p99_ulp", False), ("max_ulp", True), ("max_rel", True))
    cells = [region.title]
    for name, both in pairs:
        cells += [_figure(ours, name)] + ([_figure(eager, name)] if both else [])
    return tuple(cells)


def _figure(errors: Errors | None, name: str) -> str:
    return MISSING if errors is None else digits(float(getattr(errors, name)))
