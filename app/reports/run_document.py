"""The report of one captured run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from analyzer.diagnosis.finding import Diagnosis, Finding
from app.reports.document import MEASURED, PREDICTED, Document, Fact, Item, Section, Table
from app.reports.modules import ModuleTime, module_times
from app.reports.terms import choose_terms
from app.units import digits, evidence, evidence_label, gigaflops, mebibytes, milliseconds, percent, plural, quantity

if TYPE_CHECKING:
    from analyzer.device import Environment
    from analyzer.run import Run


def run_document(run: Run, diagnosis: Diagnosis, ops: Sequence[Mapping[str, Any]]) -> Document:
    """Return the report of `run`; `ops` are the hot ops as in the JSON of `show`, the hottest first."""
    return Document(
        kind="run",
        id=run.id,
        title=run.name,
        subtitle=f"{'Training' if run.training else 'Inference'} on {run.device.name}, {plural(run.threads, 'thread')}",
        created=run.created,
        cards=_cards(run),
        sections=tuple(section for section in _sections(run, diagnosis, ops) if section is not None),
        terms=choose_terms(
            "step", "quartiles", "p95, p99", "self time", "measured", "predicted",
            "peak memory", "coverage", "dispatch", "roofline time",
        ),
    )  # fmt: skip


def _cards(run: Run) -> tuple[Fact, ...]:
    step = run.step_seconds
    cards = [
        Fact(
            "Step time",
            milliseconds(step.median),
            f"quartiles {milliseconds(step.low)} to {milliseconds(step.high)}",
            MEASURED,
        ),
        Fact("Throughput", f"{digits(run.throughput)} items/s", "rows of the first input", MEASURED),
        Fact("Peak memory", mebibytes(run.memory.peak_bytes), "parameters included", MEASURED),
        Fact(
            "Graph", plural(len(run.graph.ops), "op"), f"{plural(len(run.graph.edges), 'edge')} between them", MEASURED
        ),
    ]
    return tuple(cards)


def _sections(run: Run, diagnosis: Diagnosis, ops: Sequence[Mapping[str, Any]]) -> tuple[Section | None, ...]:
    return (
        _findings(diagnosis),
        _hot_ops(ops),
        _memory(run),
        _timeline(run),
        _modules(module_times(run.graph)),
        _step_time(run),
        _device_time(run),
        _coverage(run),
        environment_section(run.environment, _where(run)),
    )


def _findings(diagnosis: Diagnosis) -> Section:
    text = "What would give back most comes first. Evidence is measured in this run; what mending gives is predicted."
    if not diagnosis.findings:
        text = "No rule sees a hot spot that mending would noticeably change."
    return Section("findings", "Findings", text, items=tuple(_finding(finding) for finding in diagnosis.findings))


def _finding(finding: Finding) -> Item:
    estimate = finding.estimate
    spread = f"{quantity(estimate.low, estimate.unit)} to {quantity(estimate.high, estimate.unit)}"
    facts = [Fact("Could give back", f"{quantity(estimate.mid, estimate.unit)} ({spread})", estimate.basis, PREDICTED)]
    facts += [
        Fact(evidence_label(name), evidence(name, value), "", MEASURED)
        for name, value in finding.evidence.items()
        if value not in ("", None) and not isinstance(value, list | tuple | dict)
    ]
    answer = f"answered by {finding.optimizer}" if finding.optimizer else "no optimizer answers it yet"
    text = f"Rule {finding.rule}, {plural(len(finding.ops), 'op')}."
    return Item(finding.title, tuple(facts), text, answer, finding.id)


def _hot_ops(ops: Sequence[Mapping[str, Any]]) -> Section:
    rows = tuple(
        (
            str(op["name"]),
            f"{op['count']:,}",
            milliseconds(op["self_seconds"]),
            percent(op["share"]),
            gigaflops(op["flops"]),
            mebibytes(op["bytes"]),
        )
        for op in ops
    )
    table = Table(
        "Ops by self time",
        ("Op", "Calls", "Self time", "Share", "Work", "Bytes moved"),
        rows,
        ("Calls", "Self time", "Share", "Work", "Bytes moved"),
        tuple(float(op["share"] or 0.0) for op in ops),
    )
    text = "Where a step's time goes, by kind of op: measured self times. Bytes moved count each tensor once."
    return Section("hot-ops", "Hot ops", text, figures=("hot_ops",), tables=(table,))


def _memory(run: Run) -> Section:
    at_peak = sorted(run.memory.at_peak.items(), key=lambda item: -item[1])
    total = sum(run.memory.at_peak.values())
    rows = tuple((name.replace("_", " "), mebibytes(count), percent(count / total)) for name, count in at_peak if count)
    table = Table("Live bytes at the peak", ("Category", "Live", "Share"), rows, ("Live", "Share"))
    text = f"What the {mebibytes(run.memory.peak_bytes)} at the peak hold."
    return Section("memory", "Memory at the peak", text, figures=("memory",), tables=(table,), wide=False)


def _timeline(run: Run) -> Section | None:
    if not run.memory.timeline:
        return None
    counts = [count for _, count in run.memory.timeline]
    when = max(run.memory.timeline, key=lambda point: point[1])[0]
    facts = (
        Fact("Lowest", mebibytes(min(counts)), "", MEASURED),
        Fact("Highest", mebibytes(max(counts)), f"{milliseconds(when)} into the step", MEASURED),
    )
    return Section(
        "live-bytes", "Live bytes over the step",
        "Every allocation and release of one recorded step. Recording slows it: its clock is not the step time.",
        facts, figures=("live_bytes",), wide=False,
    )  # fmt: skip


def _modules(rows: Sequence[ModuleTime]) -> Section | None:
    if not rows:
        return None
    table = Table(
        "Self time by module",
        ("Module", "Timed ops", "Time", "Share"),
        tuple((row.path, f"{row.ops:,}", milliseconds(row.seconds), percent(row.share)) for row in rows),
        ("Timed ops", "Time", "Share"),
        tuple(row.share for row in rows),
        tuple(row.depth for row in rows),
    )
    return Section(
        "modules", "Modules", "Measured time of all ops in a module, its submodules included.", tables=(table,)
    )


def _step_time(run: Run) -> Section:
    step = run.step_seconds
    names = ("Lower quartile", "Median", "Upper quartile", "p95", "p99")
    values = (step.low, step.median, step.high, step.p95, step.p99)
    facts = tuple(Fact(name, milliseconds(value), "", MEASURED) for name, value in zip(names, values, strict=True))
    text = f"Wall-clock time of {step.samples:,} steps that ran without the profiler."
    return Section("step-time", "Step time", text, facts, wide=False)


def _device_time(run: Run) -> Section | None:
    if run.busy_seconds is None or run.idle_seconds is None:
        return None
    facts = (
        Fact("Busy", milliseconds(run.busy_seconds), "union of the device's activity in a step", MEASURED),
        Fact("Idle", milliseconds(run.idle_seconds), "gaps from its first activity to its last", MEASURED),
        Fact("Kernels", f"{len(run.kernels):,}", "executions on the device", MEASURED),
    )
    return Section("device-time", "Device time", "", facts, wide=False)


def _coverage(run: Run) -> Section:
    coverage = run.coverage
    facts = (
        Fact("Timed ops", percent(coverage.timed_ops), "ops of the graph that have a time", MEASURED),
        Fact("Joined ops", percent(coverage.joined_ops), "executed ops whose tensors are known", MEASURED),
        Fact("Categorised bytes", percent(coverage.categorised_bytes), "bytes at the peak of known category", MEASURED),
        Fact(
            "Overhead",
            f"{digits(run.overhead.median)}×",
            "CPU time of a step with its ops timed over a bare one",
            MEASURED,
        ),
    )
    text = "How much of the step this capture explains; what it could not see is said here, not guessed."
    return Section("coverage", "Coverage", text, facts, notes=run.notes, wide=False)


def _where(run: Run) -> tuple[Fact, ...]:
    device = run.device
    facts = [
        Fact(
            "Workload",
            run.workload.name,
            f"source {run.workload.source_hash[:12]}, state {run.workload.state_hash[:12]}",
        ),
        Fact("Device", device.name, f"{device.kind}, {device.cores} cores, {mebibytes(device.memory_bytes)}"),
        Fact("Threads", str(run.threads)),
    ]
    if device.flops_per_second is not None:
        peak = device.flops_per_second
        facts.append(Fact("Peak arithmetic", f"{digits(peak.value / 1e9)} GFLOP/s", peak.source))
    if device.bytes_per_second is not None:
        peak = device.bytes_per_second
        facts.append(Fact("Peak bandwidth", f"{digits(peak.value / 1e9)} GB/s", peak.source))
    return tuple(facts)


def environment_section(environment: Environment, first: tuple[Fact, ...] = ()) -> Section:
    """Return where it was measured: what a time depends on."""
    facts = (
        *first,
        Fact("CPU", environment.cpu, ", ".join(environment.cpu_features)),
        Fact("Python", environment.python),
        Fact("PyTorch", environment.torch),
        Fact("Numba", environment.numba),
        Fact("CUDA", environment.cuda or "none", f"driver {environment.driver}" if environment.driver else ""),
        Fact("System", environment.operating_system),
    )
    return Section("environment", "Where it was measured", "A time holds for this device and these versions.", facts)
