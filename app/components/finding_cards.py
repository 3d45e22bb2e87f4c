"""Findings as cards: what was measured, what mending it could give back, and the way to do it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import dash_mantine_components as dmc
from dash import html

from app.components.attributes import attributes
from app.components.badge import origin_badge
from app.components.card import section
from app.components.facts import evidence
from app.components.links import link, link_button
from app.components.term import term
from app.units import plural
from app.views.overview import FindingView

_SHOWN = 4


def findings_pixels(findings: Sequence[FindingView]) -> float:
    """Return about how high the card is on a wide screen."""
    shown = (250.0 + 27 * ((len(finding.evidence) + 1) // 2) for finding in findings[:_SHOWN])
    return 80.0 + sum(shown) + (30 if len(findings) > _SHOWN else 0)


def finding_cards(run: str, findings: Sequence[FindingView], chosen: str) -> Any:
    """Return the findings of a run, the one with the id `chosen` marked; the first that can be answered is primary."""
    if not findings:
        return section(
            term("finding", "Findings"), text="No rule sees a hot spot that mending would noticeably change."
        )
    first = next((finding.id for finding in findings if finding.optimizer), "")
    cards = [_finding(run, finding, finding.id == chosen, finding.id == first) for finding in findings]
    shown, more = cards[:_SHOWN], cards[_SHOWN:]
    rest = [html.Details([html.Summary(plural(len(more), "more finding")), *more], className="hb-more")] if more else []
    return section(
        term("finding", "Findings"), *shown, *rest, text="What mending would give back most comes first.", id="findings"
    )


def _finding(run: str, finding: FindingView, marked: bool, primary: bool) -> Any:
    could = html.Div(
        [
            origin_badge(True),
            html.Span(["could give back ", html.Strong(finding.estimate), f" ({finding.interval})"]),
            html.Span(finding.share, className="hb-subtitle") if finding.share else None,
        ],
        className="hb-line",
    )
    if finding.optimizer:
        act: Any = link_button(
            "Fix it in Optimize", "/optimize", icon="optimize", primary=primary, run=run, finding=finding.id
        )
    else:
        act = html.Span("No optimizer answers it yet.", className="hb-subtitle")
    ops = link("Show its ops", "/graph", run=run, finding=finding.id)
    return html.Div(
        [
            dmc.Title(finding.title, order=3, className="hb-finding-title"),
            could,
            html.Div(["Predicted from ", finding.basis, "."], className="hb-subtitle"),
            html.Div([origin_badge(False), html.Span([f"{finding.about}. ", ops])], className="hb-line"),
            evidence(finding.evidence),
            html.Div(act, className="hb-finding-act"),
        ],
        className="hb-finding hb-marked" if marked else "hb-finding",
        **attributes(data_finding=finding.id),
    )
