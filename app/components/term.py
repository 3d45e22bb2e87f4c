"""A term with its meaning, shown on hover, focus or touch."""

from __future__ import annotations

from typing import Any

import dash_mantine_components as dmc
from dash import html

from app.reports.terms import TERMS

PAGE_TERMS = {
    "throughput": "Items a second at the median step time; an item is one row of the first input.",
    "device use": "Share of the step in which the device works: the union of its activity, measured by its own clock.",
    "achieved FLOP/s": "Floating-point operations of the ops that have a known count, over the median step time. "
    "A multiply-add counts as two; an op without a rule counts none.",
    "live bytes": "Bytes that the allocator has handed out and not taken back.",
    "finding": "A hot spot that a rule found, with what was measured and what mending it could give back.",
    "overhead": "CPU time of a step whose ops are timed over that of a bare one; step times are of bare steps.",
    "interleaved": "Both are run in turns in one sitting, so that a change of the machine's speed hits both.",
    "kept": "An experiment that proved a gain and stands as this run's answer, until it is undone.",
    "tag": "A word of your own, to find runs again.",
}


def meaning(name: str) -> str:
    """Return what a term means. Raises KeyError for one that nobody explained."""
    return PAGE_TERMS[name] if name in PAGE_TERMS else TERMS[name]


def term(name: str, label: str = "") -> dmc.Tooltip:
    """Return `label` (or the term itself), dotted; its meaning shows on hover, keyboard focus and touch."""
    return explain(label or name, meaning(name))


def explain(label: Any, text: str) -> dmc.Tooltip:
    """Return `label`, dotted, with `text` that shows on hover, keyboard focus and touch."""
    return dmc.Tooltip(
        html.Span(label, className="hb-term", tabIndex=0),
        label=text,
        multiline=True,
        w=280,
        withArrow=True,
        boxWrapperProps={"className": "hb-term-box"},
        events={"hover": True, "focus": True, "touch": True},
    )
