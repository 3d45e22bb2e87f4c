"""The report of one experiment: what was changed, what it gave, and how sure that is."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from analyzer.closeness import GIVEN
from analyzer.measurement import Estimate, measure_quartiles
from app.reports.decisions import decision_tables, decision_text
from app.reports.document import MEASURED, PREDICTED, Document, Fact, Section, Table
from app.reports.regions import ROOFLINE, region_tables
from app.reports.run_document import environment_section
from app.reports.terms import choose_terms
from app.units import (
    MISSING,
    digits,
    mebibytes,
    milliseconds,
    percent,
    plural,
    quantity,
    ratio,
    verdict_reason,
)
from app.views.regions import RegionsView, regions_view

if TYPE_CHECKING:
    from analyzer.experiment import Accuracy, Experiment
    from analyzer.run import Run
    from optimizers.plan import Applied, Candidate, Plan

TONES = {"faster": "good", "smaller": "good", "slower": "bad", "refused": "bad", "inconclusive": "warn"}


def experiment_document(experiment: Experiment, candidate: Candidate | None, run: Run) -> Document:
    """Return the report of `experiment`; without a candidate it compares two runs."""
    applied = candidate.applied if candidate is not None else ()
    view = regions_view(experiment.id, candidate, run) if candidate is not None else None
    regions = {view.optimizer: view} if view is not None and view.regions else {}
    change = ", ".join(item.plan.optimizer for item in applied)
    title = f"{run.name} + {change}" if applied else f"{run.name} against {_other_name(experiment)}"
    kind = "Training" if run.training else "Inference"
    sections = (
        _times(experiment, applied),
        _accuracy(experiment.accuracy),
        _footprint(experiment),
        *(_applied(item, regions.get(item.plan.optimizer)) for item in applied),
        environment_section(experiment.environment, _where(experiment, run)),
        _reproduce(experiment, applied, run),
    )
    return Document(
        kind="experiment",
        id=experiment.id,
        title=title,
        subtitle=f"{kind} on {run.device.name}, {plural(experiment.candidate.threads, 'thread')}",
        created=experiment.created,
        cards=_cards(experiment, applied),
        sections=sections,
        terms=choose_terms(
            "speedup", "95 % interval", "noise floor", "verdict", "measured", "predicted", "peak memory", "agreement"
        ),
        verdict=experiment.verdict,
        reason=verdict_reason(experiment.verdict, experiment.reason),
        tone=TONES.get(experiment.verdict, "warn"),
    )


def predicted_speedup(applied: Sequence[Applied]) -> Estimate | None:
    """Return the last plan's predicted speedup, None if no plan predicts one."""
    estimates = [item.plan.estimate for item in applied if item.plan.estimate.unit == "x"]
    return estimates[-1] if estimates else None


def _cards(experiment: Experiment, applied: Sequence[Applied]) -> tuple[Fact, ...]:
    speedup, accuracy = experiment.speedup, experiment.accuracy
    if not experiment.before_seconds:
        return (Fact("Speedup", MISSING, "not measured: the candidate never ran a timed step", "", "bad"),)
    before, after = _medians(experiment)
    interval = f"95 % interval {ratio(speedup.low)} to {ratio(speedup.high)}"
    peak_before = f"before {mebibytes(experiment.peak_bytes_before)}"
    time_tone = TONES.get(experiment.verdicts.get("time", ""), "")
    accuracy_tone = "good" if accuracy.passed else "bad"
    return (
        Fact("Speedup", ratio(speedup.median), interval, MEASURED, time_tone),
        Fact("Step time", milliseconds(after), f"before {milliseconds(before)}", MEASURED),
        Fact("Peak memory", mebibytes(experiment.peak_bytes_after), peak_before, MEASURED),
        Fact(*_closeness(accuracy), MEASURED, accuracy_tone),
    )


def _closeness(accuracy: Accuracy) -> tuple[str, str, str]:
    """Return the figure that says how close the answers are, its value, and what was allowed."""
    if accuracy.gate is None:
        return "Largest relative error", f"{accuracy.max_rel:.2g}", f"allowed {accuracy.tolerance:.2g}"
    return "Cosine similarity", f"{accuracy.cosine:.5g}", accuracy.reason


def _medians(experiment: Experiment) -> tuple[float, float]:
    return (
        measure_quartiles(experiment.before_seconds, "s").median,
        measure_quartiles(experiment.after_seconds, "s").median,
    )


def _times(experiment: Experiment, applied: Sequence[Applied]) -> Section:
    rows = []
    series = (
        ("before", experiment.before_seconds),
        ("after", experiment.after_seconds),
        ("before, again", experiment.again_seconds),
    )
    for name, values in (item for item in series if item[1]):
        spread = measure_quartiles(values, "s")
        rows.append((name, milliseconds(spread.median), milliseconds(spread.low), milliseconds(spread.high),
                     milliseconds(min(values)), milliseconds(max(values)), f"{len(values):,}"))  # fmt: skip
    columns = ("Variant", "Median", "Lower quartile", "Upper quartile", "Fastest", "Slowest", "Samples")
    if not rows:
        text = "Nothing was measured: the candidate failed before its first timed step."
        return Section("time", "Time, before and after", text, notes=experiment.notes)
    order = "driven alternately from the same initial state" if experiment.interleaved else "NOT interleaved"
    return Section(
        "time",
        "Time, before and after",
        f"Each variant ran in a process of its own, {order}; the baseline ran twice, which gives the noise floor.",
        _time_facts(experiment, applied),
        figures=("speedup", "distributions"),
        tables=(Table("Step times", columns, tuple(rows), columns[1:]),),
        notes=experiment.notes,
    )


def _time_facts(experiment: Experiment, applied: Sequence[Applied]) -> tuple[Fact, ...]:
    speedup, floor, predicted = experiment.speedup, experiment.noise_floor, predicted_speedup(applied)
    facts = [
        Fact(
            "Speedup", ratio(speedup.median), f"95 % interval {ratio(speedup.low)} to {ratio(speedup.high)}", MEASURED
        ),
        Fact("Noise floor", f"{ratio(floor.low)} to {ratio(floor.high)}", "the baseline against itself", MEASURED),
    ]
    if predicted is not None:
        spread = f"{ratio(predicted.low)} to {ratio(predicted.high)}"
        facts.append(Fact("Predicted speedup", ratio(predicted.mid), f"{spread}; {predicted.basis}", PREDICTED))
        facts.append(
            Fact("Prediction error", percent(predicted.mid / speedup.median - 1), "predicted over measured, less 1")
        )
    return tuple(facts)


def _accuracy(accuracy: Accuracy) -> Section:
    if not accuracy.inputs:
        return Section("accuracy", "Answers", accuracy.mismatch or "No outputs were compared.", wide=False)
    # With a gate, the dtype's tolerance decides nothing.
    asked = accuracy.gate is None or accuracy.tolerance_reason == GIVEN
    allowed = f"allowed {accuracy.tolerance:.3g}: {accuracy.tolerance_reason}" if asked else ""
    places = "at the same places" if accuracy.special_values_match else "at other places"
    facts = [
        Fact("Largest relative error", f"{accuracy.max_rel:.3g}", allowed, MEASURED),
        Fact("Largest absolute error", f"{accuracy.max_abs:.3g}", "", MEASURED),
        Fact("Cosine similarity", f"{accuracy.cosine:.9f}", "1 is the same direction", MEASURED),
        Fact("Agreement", percent(accuracy.agreement, 2), "same arg-max", MEASURED),
        Fact("NaN and infinities", places, "", MEASURED),
        Fact("Compared on", f"{accuracy.inputs} fresh inputs"),
    ]
    if accuracy.gate is not None:
        facts.insert(0, Fact("Gate", "passed" if accuracy.passed else "failed", accuracy.reason))
    for name in sorted(set(accuracy.metric_before) | set(accuracy.metric_after)):
        before, after = accuracy.metric_before.get(name), accuracy.metric_after.get(name)
        value = "–" if after is None else digits(after, 4)
        facts.append(Fact(name, value, "–" if before is None else f"before {digits(before, 4)}", MEASURED))
    return Section("accuracy", "Answers", "The same inputs through both variants.", tuple(facts), wide=False)


def _footprint(experiment: Experiment) -> Section:
    facts = (
        Fact("Peak memory before", mebibytes(experiment.peak_bytes_before), "", MEASURED),
        Fact("Peak memory after", mebibytes(experiment.peak_bytes_after), "", MEASURED),
        Fact("Memory ratio", percent(experiment.memory_ratio), "after over before", MEASURED),
        Fact("Size ratio", percent(experiment.size_ratio), "parameters and buffers, after over before", MEASURED),
        *(Fact(f"Verdict on {name}", word) for name, word in experiment.verdicts.items()),
    )
    return Section("footprint", "Memory, size and verdicts", "Peak memory is read in each process.", facts, wide=False)


def _applied(item: Applied, regions: RegionsView | None) -> Section:
    plan = item.plan
    estimate = plan.estimate
    spread = f"{quantity(estimate.low, estimate.unit)} to {quantity(estimate.high, estimate.unit)}; {estimate.basis}"
    facts = (
        Fact("Optimizer", plan.optimizer),
        Fact("Predicted", quantity(estimate.mid, estimate.unit), spread, PREDICTED),
        *(Fact(f"Option {name}", decision_text(name, value)) for name, value in plan.options.items()),
    )
    targets = tuple(
        (target.title, f"{len(target.ops):,}", "left alone" if target.refusal else "taken", target.refusal)
        for target in plan.targets
    )
    tables = [Table("Targets", ("Target", "Ops", "Outcome", "Why not"), targets, ("Ops",))] if targets else []
    # The regions say all of the choices, and more.
    tables += region_tables(regions) if regions is not None else []
    tables += decision_tables({k: v for k, v in item.decisions.items() if k != "choices" or regions is None})
    return Section(
        f"applied-{plan.optimizer}",
        f"What {plan.optimizer} changed",
        plan.summary,
        facts,
        tables=tuple(tables),
        figures=(ROOFLINE,) if regions is not None else (),
    )


def _where(experiment: Experiment, run: Run) -> tuple[Fact, ...]:
    reference = run.workload
    return (
        Fact("Workload", reference.name, f"source {reference.source_hash[:12]}, state {reference.state_hash[:12]}"),
        Fact("Device", run.device.name, run.device.kind),
        Fact("Threads", str(experiment.candidate.threads)),
    )


def _other_name(experiment: Experiment) -> str:
    """Return the workload that a plain comparison measured against the run's."""
    argument = experiment.candidate.argument
    if {"path", "function"} <= set(argument):
        return f"{Path(str(argument['path'])).name}:{argument['function']}"
    return experiment.candidate.name


def _reproduce(experiment: Experiment, applied: Sequence[Applied], run: Run) -> Section:
    commands = [f"hotbench profile {run.workload.name} --device {run.device.kind} --threads {run.threads}"]
    if applied:
        names = ",".join(item.plan.optimizer for item in applied)
        settings = "".join(f" --set {shlex.quote(text)}" for item in applied for text in _settings(item.plan))
        commands.append(f"hotbench optimize {run.id} --with {names}{settings}{_max_error(experiment.accuracy)}")
        commands.append(f"hotbench export {experiment.id} -o artifact")
    commands.append(f"hotbench report {experiment.id} -o report.html")
    text = "In the folder of the workload. A new run gets an id of its own; times differ within the noise floor."
    return Section("reproduce", "How to repeat it", text, commands=tuple(commands))


def _settings(plan: Plan) -> list[str]:
    """Return NAME.OPTION=VALUE of a plan's options, as the command line reads them; those at their default left out."""
    # Loads torch, which a candidate has loaded by now.
    from optimizers.registry import optimizer_named

    defaults = {
        item.name: item.default
        for item in dataclasses.fields(optimizer_named(plan.optimizer).options)
        if item.default is not dataclasses.MISSING
    }
    chosen = [(name, value) for name, value in plan.options.items() if name not in defaults or value != defaults[name]]
    return [f"{plan.optimizer}.{name}={_option_text(value)}" for name, value in chosen]


def _max_error(accuracy: Accuracy) -> str:
    return f" --max-error {accuracy.tolerance!r}" if accuracy.tolerance_reason == GIVEN else ""


def _option_text(value: object) -> str:
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)
