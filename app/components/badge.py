"""Badges: one word, coloured by what it means; the colour never says more than the word."""

from __future__ import annotations

import dash_mantine_components as dmc

VERDICT_COLOURS = {"faster": "teal", "smaller": "teal", "slower": "red", "refused": "red", "inconclusive": "gray"}
JOB_COLOURS = {"queued": "gray", "running": "blue", "done": "teal", "failed": "red", "cancelled": "orange"}


def badge(text: str, colour: str = "gray") -> dmc.Badge:
    """Return a word on a light ground."""
    return dmc.Badge(text, color=colour, variant="light", radius="sm", tt="none", className="hb-badge")


def verdict_badge(verdict: str) -> dmc.Badge:
    """Return an experiment's verdict."""
    return badge(verdict, VERDICT_COLOURS.get(verdict, "gray"))


def job_badge(state: str) -> dmc.Badge:
    """Return a job's state."""
    return badge(state, JOB_COLOURS.get(state, "gray"))


def origin_badge(predicted: bool) -> dmc.Badge:
    """Return whether a figure was predicted or measured: it stands beside every figure that could be either."""
    return badge("predicted", "violet") if predicted else badge("measured", "blue")
