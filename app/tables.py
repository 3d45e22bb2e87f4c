"""Results for people in a terminal: rich tables and lines made of values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from analyzer.diagnosis.finding import Diagnosis, Finding
from analyzer.experiment import Experiment
from analyzer.measurement import Estimate
from analyzer.run import Run
from app.reports.experiment_document import predicted_speedup
from app.units import (
    evidence,
    evidence_label,
    gigaflops,
    mebibytes,
    milliseconds,
    percent,
    plural,
    printable,
    quantity,
    ratio,
    verdict_reason,
)

if TYPE_CHECKING:
    from analyzer.comparison import Comparison
    from app.checks.check import Check
    from optimizers.pipeline import Outcome

_BAR = "█"
_BAR_WIDTH = 14
_WIDTH_WITH_BARS = 100
_STYLES = {"faster": "bold green", "smaller": "bold green", "slower": "bold red", "refused": "bold red"}


def run_lines(run: Run) -> RenderableType:
    """Return what a capture found, in four lines."""
    step, coverage = run.step_seconds, run.coverage
    kind = "training step" if run.training else "inference step"
    head = Text.assemble(("✓ ", "bold green"), (run.id, "bold cyan"), f"  {printable(run.name)}")
    grid = _grid()
    grid.add_row(kind, Text.assemble((milliseconds(step.median), "bold"), _spread(run)))
    grid.add_row("device", f"{printable(run.device.name)} ({run.device.kind}), {plural(run.threads, 'thread')}")
    grid.add_row("memory", f"{mebibytes(run.memory.peak_bytes)} at the peak")
    grid.add_row("graph", f"{len(run.graph.ops):,} ops, {len(run.graph.edges):,} edges between them")
    grid.add_row(
        "coverage",
        f"timed {percent(coverage.timed_ops)}, joined {percent(coverage.joined_ops)}, "
        f"memory explained {percent(coverage.categorised_bytes)}",
    )
    notes = [Text(f"note: {printable(note)}", style="yellow") for note in run.notes]
    return Group(head, Padding(grid, (0, 0, 0, 2), expand=False), *notes)


def _spread(run: Run) -> str:
    step = run.step_seconds
    return (
        f"  quartiles {milliseconds(step.low)} to {milliseconds(step.high)}, p95 {milliseconds(step.p95)}, "
        f"p99 {milliseconds(step.p99)}, {step.samples} steps"
    )


def hot_ops(ops: Sequence[Mapping[str, Any]], width: int) -> RenderableType:
    """Return the table of hot ops; `ops` as in the JSON of `show`. Bars need `width` columns or more."""
    bars = width >= _WIDTH_WITH_BARS
    table = _table()
    table.add_column("op", no_wrap=True, overflow="ellipsis", max_width=40)
    for name in ("calls", "self time", "share", *([""] if bars else []), "work", "moved"):
        table.add_column(name, justify="right" if name else "left", no_wrap=True)
    largest = max((op["share"] or 0.0 for op in ops), default=0.0)
    for op in ops:
        share = op["share"] or 0.0
        bar = Text(_BAR * round(_BAR_WIDTH * share / largest) if largest else "", style="cyan")
        table.add_row(
            printable(op["name"]),
            f"{op['count']:,}",
            milliseconds(op["self_seconds"]),
            percent(share),
            *([bar] if bars else []),
            gigaflops(op["flops"]),
            mebibytes(op["bytes"]),
        )
    return _titled("Hot ops", "measured self time per step, children excluded", table)


def memory(categories: Mapping[str, int]) -> RenderableType:
    """Return the table of bytes live at the peak, by category."""
    table = _table()
    table.add_column("category")
    table.add_column("live", justify="right", no_wrap=True)
    table.add_column("share", justify="right", no_wrap=True)
    parts = {name: count for name, count in categories.items() if name != "peak"}
    total = sum(parts.values())
    for name, count in sorted(parts.items(), key=lambda item: -item[1]):
        if count:
            table.add_row(name.replace("_", " "), mebibytes(count), percent(count / total))
    return _titled("Memory at the peak", "live bytes of the allocator, by what they hold", table)


def findings(diagnosis: Diagnosis) -> RenderableType:
    """Return the findings, each with its evidence (measured) and its estimate (predicted)."""
    if not diagnosis.findings:
        return Text("No finding: no rule sees a hot spot that mending would noticeably change.")
    table = _table()
    table.add_column("", justify="right")
    table.add_column("finding", ratio=3)
    table.add_column("could give back (predicted)", no_wrap=True)
    table.add_column("answered by", no_wrap=True)
    for position, finding in enumerate(diagnosis.findings, start=1):
        title = Text(printable(finding.title))
        detail = Text(evidence_line(finding), style="dim")
        table.add_row(str(position), Group(title, detail), _estimate(finding.estimate), finding.optimizer or "–")
    return _titled("Findings", "what would give back most first", table)


def evidence_line(finding: Finding) -> str:
    """Return a finding's measured figures in one line."""
    shown = [
        f"{evidence_label(name)} {evidence(name, value)}"
        for name, value in finding.evidence.items()
        if value not in ("", None) and not isinstance(value, list | tuple | dict)
    ]
    return ", ".join(shown)


def _estimate(estimate: Estimate) -> str:
    return (
        f"{quantity(estimate.mid, estimate.unit)} "
        f"({quantity(estimate.low, estimate.unit)} to {quantity(estimate.high, estimate.unit)})"
    )


def experiment(value: Experiment, predicted: Estimate | None) -> RenderableType:
    """Return an experiment: the verdict, and the figures that it rests on."""
    head = Text.assemble(
        (value.verdict.upper(), _STYLES.get(value.verdict, "bold yellow")),
        f"  {printable(verdict_reason(value.verdict, value.reason))}",
    )
    table = Table(box=SIMPLE_HEAD, pad_edge=False, title_justify="left")
    table.add_column("")
    for name in ("before", "after", "measured"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("predicted", justify="right", no_wrap=True)
    speedup = f"{ratio(value.speedup.median)} ({ratio(value.speedup.low)} to {ratio(value.speedup.high)})"
    forecast = _estimate(predicted) if predicted is not None and predicted.unit == "x" else "–"
    table.add_row("step time", milliseconds(_median(value.before_seconds)), milliseconds(_median(value.after_seconds)),
                  Text(speedup, style="bold"), forecast)  # fmt: skip
    table.add_row("peak memory", mebibytes(value.peak_bytes_before), mebibytes(value.peak_bytes_after),
                  _of_before(value.memory_ratio), "–")  # fmt: skip
    table.add_row("model size", "", "", _of_before(value.size_ratio), "–")
    accuracy = value.accuracy
    lines = _grid()
    lines.add_row(
        "noise floor", f"{ratio(value.noise_floor.low)} to {ratio(value.noise_floor.high)} (baseline against itself)"
    )
    error = f"largest relative error {accuracy.max_rel:.3g}, allowed {accuracy.tolerance:.3g}"
    answers = f"{error} ({accuracy.tolerance_reason})" if accuracy.gate is None else accuracy.reason
    lines.add_row("accuracy", f"{answers}, over {accuracy.inputs} fresh inputs")
    lines.add_row("verdicts", ", ".join(f"{name}: {word}" for name, word in value.verdicts.items()))
    notes = [Text(f"note: {printable(note)}", style="yellow") for note in value.notes]
    return Group(head, table, Padding(lines, (0, 0, 0, 2), expand=False), *notes)


def outcome(value: Outcome) -> RenderableType:
    """Return the end of an `optimize`: refusals, and the experiment if there is one."""
    refusals = [
        Text.assemble(("refused ", "bold yellow"), f"{refusal.optimizer}: {printable(refusal.reason)}")
        for refusal in value.refusals
    ]
    if value.experiment is None or value.candidate is None:
        return Group(*refusals, Text("Nothing was changed."))
    summaries = [Text(printable(item.plan.summary)) for item in value.candidate.applied]
    kept = "kept" if value.kept else "not kept"
    ids = Text.assemble((value.experiment.id, "bold cyan"), f"  candidate {value.candidate.id}, {kept}")
    proof = experiment(value.experiment, predicted_speedup(value.candidate.applied))
    return Group(*refusals, ids, *summaries, "", proof)


def comparison(value: Comparison) -> RenderableType:
    """Return a comparison: the verdict, and the ops that differ most."""
    head = Text.assemble(
        (value.verdict.upper(), _STYLES.get(value.verdict, "bold yellow")),
        f"  {printable(verdict_reason(value.verdict, value.reason))}",
    )
    lines = _grid()
    lines.add_row(
        "speedup", f"{ratio(value.speedup.median)} ({ratio(value.speedup.low)} to {ratio(value.speedup.high)})"
    )
    lines.add_row("noise floor", f"{ratio(value.noise_floor.low)} to {ratio(value.noise_floor.high)}")
    lines.add_row("interleaved", "yes" if value.interleaved else "no: from stored times")
    counts = f"{len(value.ops_added)} added, {len(value.ops_removed)} removed, {len(value.ops_changed)} changed"
    lines.add_row("ops", f"{counts} (by name and module)")
    table = _table()
    table.add_column("op")
    table.add_column("module")
    for name in ("calls before", "after", "time before", "after"):
        table.add_column(name, justify="right", no_wrap=True)
    everything = sorted(
        (*value.ops_added, *value.ops_removed, *value.ops_changed),
        key=lambda item: -abs(item.seconds_after - item.seconds_before),
    )
    for item in everything[:10]:
        table.add_row(printable(item.name), printable(item.scope), f"{item.calls_before:,}", f"{item.calls_after:,}",
                      milliseconds(item.seconds_before), milliseconds(item.seconds_after))  # fmt: skip
    return Group(
        head,
        Padding(lines, (0, 0, 0, 2), expand=False),
        *([_titled("Ops that differ most", "self time per step", table)] if everything else []),
    )


def artifact(data: Mapping[str, Any]) -> RenderableType:
    """Return what an export wrote; `data` as in its JSON."""
    head = Text.assemble(("✓ ", "bold green"), (str(data["artifact"]), "bold cyan"), f"  {printable(data['folder'])}")
    lines = _grid()
    error = data["max_abs_error_after_reload"]
    lines.add_row("checked", f"loaded in a fresh process without Hotbench: largest absolute error {error:.3g}")
    lines.add_row("sha256", data["sha256"])
    lines.add_row("files", ", ".join(printable(name) for name in data["files"]))
    return Group(head, Padding(lines, (0, 0, 0, 2), expand=False))


def reproducer(data: Mapping[str, Any]) -> RenderableType:
    """Return what the export of one kernel wrote; `data` as in its JSON."""
    head = Text.assemble(("✓ ", "bold green"), (str(data["kernel"]), "bold cyan"), f"  {printable(data['folder'])}")
    lines = _grid()
    lines.add_row("sha256", data["sha256"])
    lines.add_row("files", ", ".join(printable(name) for name in data["files"]))
    return Group(head, Padding(lines, (0, 0, 0, 2), expand=False))


def largest_batch(data: Mapping[str, Any]) -> RenderableType:
    """Return how much fits into a budget; `data` as in its JSON."""
    budget = mebibytes(data["budget_bytes"])
    head = Text.assemble(("✓ ", "bold green"), (plural(data["batch"], "item"), "bold"), f"  fit into {budget}")
    lines = _grid()
    step, alone = data["step_seconds_after"], data["step_seconds_before"]
    peak, peak_alone = mebibytes(data["peak_bytes_measured"]), mebibytes(data["peak_bytes_before"])
    lines.add_row("peak, measured", f"{peak}, not {peak_alone}")
    lines.add_row("step, measured", f"{milliseconds(step['median'])}, not {milliseconds(alone['median'])}")
    lines.add_row("nothing moved", f"{data['unswapped']['mid']:,.0f} items fit, simulated")
    lines.add_row("traced", ", ".join(f"{count:,}" for count in data["traced"]) + " items")
    return Group(head, Padding(lines, (0, 0, 0, 2), expand=False))


def checks(values: Iterable[Check]) -> RenderableType:
    """Return the doctor's findings, one a row."""
    signs = {
        "ok": ("✓", "bold green"),
        "absent": ("–", "dim"),
        "warn": ("!", "bold yellow"),
        "fail": ("✗", "bold red"),
    }
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(no_wrap=True)
    grid.add_column()
    for check in values:
        remedy = [Text(check.remedy, style="yellow")] if check.remedy else []
        sign = Text.assemble(signs[check.state], f" {check.state}")
        grid.add_row(sign, Text(check.name, style="bold"), Group(Text(printable(check.found)), *remedy))
    return grid


def next_commands(title: str, commands: Iterable[str]) -> Text:
    """Return what to type next, one command a line, ready to copy."""
    return Text.assemble((title, "bold"), *((f"\n  {command}", "cyan") for command in commands))


def _of_before(value: float | None) -> str:
    return f"{percent(value)} of before" if value is not None else "–"


def _median(values: Sequence[float]) -> float | None:
    ordered = sorted(values)
    middle = len(ordered) // 2
    if not ordered:
        return None
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def _table() -> Table:
    return Table(box=SIMPLE_HEAD, pad_edge=False)


def _titled(title: str, caption: str, table: Table) -> RenderableType:
    # Apart from the table: a title of the table's own is wrapped at a narrow table's width.
    return Group(Text.assemble((title, "bold"), (f"  {caption}", "dim")), table)


def _grid() -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column()
    return grid
