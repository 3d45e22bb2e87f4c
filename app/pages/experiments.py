"""Every experiment: what was measured against what, the verdict, and the whole of the evidence."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import dash_mantine_components as dmc
from dash import Dash, html

from analyzer.errors import RecordError
from analyzer.experiment import Experiment, load_experiment
from analyzer.measurement import Measurement
from app import workbench
from app.components import (
    experiment_callbacks,
    placement_callbacks,
    quantization_callbacks,
    region_callbacks,
    swap_callbacks,
)
from app.components.ago import ago
from app.components.badge import badge, verdict_badge
from app.components.card import page_heading, section
from app.components.document import document
from app.components.empty import empty, problem
from app.components.experiment_acts import experiment_acts
from app.components.links import link, link_button
from app.components.placement import placement_section
from app.components.quantization import quantization_section
from app.components.regions import regions_section
from app.components.swap import swap_section
from app.components.table import table
from app.components.verdict import verdict_panel
from app.reports.document import Section
from app.reports.experiment_document import experiment_document
from app.reports.regions import CAPTION, ERRORS
from app.store import Entry, Store
from app.store.keeps import all_kept
from app.units import ratio
from app.views.experiment_state import experiment_state
from app.views.experiments import ExperimentRow, experiment_rows, proof_view
from app.views.loaded import Cache
from app.web.context import context

PATH = "/experiments"
TITLE = "Experiments"
ICON = "experiments"
NEEDS_RUN = False

_BESIDE_VERDICT = ("Speedup", "Predicted speedup", "Prediction error")
_loaded = Cache(64)


def layout(query: Mapping[str, str]) -> Any:
    """Return the list, or the experiment in the address."""
    if query.get("experiment"):
        return _detail(query["experiment"])
    store = context().store
    entries = store.entries()
    rows = experiment_rows(entries, {item.id: speedup(store, item) for item in entries if item.kind == "experiment"})
    if not rows:
        return _nothing(query.get("run", ""))
    kept = all_kept(store)
    listed = table(
        "Experiments, the newest first",
        ("Experiment", "Optimizers", "Verdict", "Speedup", "95 % interval", "When", "Run"),
        [_row(row, row.id in kept) for row in rows],
        numeric=("Speedup", "95 % interval"),
    )
    text = (
        "Each one ran both sides in turns, in processes of their own, and the baseline twice: that is the noise floor."
    )
    return dmc.Stack([page_heading("Experiments", text), section("Measured against each other", listed)], gap="md")


def speedup(store: Store, entry: Entry) -> Measurement | None:
    """Return the measured speedup of an experiment's entry; None where its folder cannot be read."""
    from analyzer.errors import HotbenchError

    try:
        value = loaded(store, entry)
    except HotbenchError:
        return None
    return value.speedup


def loaded(store: Store, entry: Entry) -> Experiment:
    """Return the experiment of an entry, from memory if it was loaded before."""
    folder = store.folder(entry)
    value: Experiment = _loaded.get((str(folder), entry.digest), lambda: load_experiment(folder))
    return value


def _row(row: ExperimentRow, kept: bool) -> list[Any]:
    low, high = ratio(row.low), ratio(row.high)
    mark = [badge("kept", "teal")] if kept else []
    return [
        link(row.name, "/experiments", experiment=row.id, run=row.run),
        row.optimizers,
        dmc.Group([verdict_badge(row.verdict or "–"), *mark], gap=6, wrap="nowrap"),
        ratio(row.speedup),
        f"{low} to {high}" if row.low is not None else "–",
        ago(row.created),
        link("Overview", "/", run=row.run) if row.run else "–",
    ]


def _nothing(run: str) -> Any:
    text = "An experiment is made whenever an optimizer is applied to a run, or two runs are measured anew."
    act = link_button("To Optimize", "/optimize", icon="optimize", primary=True, run=run or None)
    return dmc.Stack([page_heading("Experiments"), empty("No experiment yet", text, act)], gap="md")


def _detail(text: str) -> Any:
    shared = context()
    entry = shared.store.find(text, ("experiment",))
    proof = workbench.read_proof(shared.store, entry.id)
    view = proof_view(proof.experiment, proof.candidate)
    report = experiment_document(proof.experiment, proof.candidate, proof.run)
    state = experiment_state(shared.store, shared.jobs, entry.id)
    back = dmc.Group([link("All experiments", "/experiments"), link("The run", "/", run=proof.run.id)], gap="md")
    about = [report.subtitle, ", ", ago(report.created), html.Br(), html.Span(entry.id, className="hb-mono")]
    return dmc.Stack(
        [
            page_heading(report.title, about, back),
            section("What was found", verdict_panel(view)),
            section("What to do with it", experiment_acts(state, "experiments")),
            *_quantization(entry.id),
            *_swap(entry.id),
            *_placement(entry.id),
            *_regions(entry.id, proof.run.id),
            *document(dataclasses.replace(report, sections=_below_verdict(report.sections)), {}),
        ],
        gap="md",
    )


def _regions(experiment: str, run: str) -> list[Any]:
    """Return the card of regions, for a candidate whose optimizer proves them one by one."""
    view = region_callbacks.view_of(experiment)
    return [] if view is None or not (view.regions or view.problem) else [regions_section(view, run)]


def _quantization(experiment: str) -> list[Any]:
    """Return the card of compressed layers, for a candidate that has some."""
    try:
        found = quantization_callbacks.proof_of(experiment)
    except RecordError as error:
        return [problem(str(error), title="The compressed layers cannot be shown")]
    return [] if found is None else [quantization_section(found)]


def _swap(experiment: str) -> list[Any]:
    """Return the card of the step's memory, for a candidate that keeps a budget."""
    try:
        found = swap_callbacks.proof_of(experiment)
    except RecordError as error:
        return [problem(str(error), title="The memory of the step cannot be shown")]
    return [] if found is None else [swap_section(found)]


def _placement(experiment: str) -> list[Any]:
    """Return the card of several workers' steps, for a candidate that trains on them."""
    try:
        found = placement_callbacks.proof_of(experiment)
    except RecordError as error:
        return [problem(str(error), title="The workers' steps cannot be shown")]
    return [] if found is None else [placement_section(found)]


def _below_verdict(sections: Sequence[Section]) -> tuple[Section, ...]:
    """Return a report's sections without what the page shows above them: the verdict's figures, and the regions."""
    return tuple(_shortened(item) for item in sections)


def _shortened(item: Section) -> Section:
    if item.id == "time":
        facts = tuple(fact for fact in item.facts if fact.label not in _BESIDE_VERDICT)
        return dataclasses.replace(item, figures=(), notes=(), facts=facts)
    # The card of regions has them, with more.
    return dataclasses.replace(
        item, tables=tuple(table for table in item.tables if not table.caption.startswith((CAPTION, ERRORS)))
    )


def register(app: Dash) -> None:
    """Declare the acts of experiments, wherever they are shown."""
    experiment_callbacks.register(app)
    region_callbacks.register(app)
    quantization_callbacks.register_experiment(app)
