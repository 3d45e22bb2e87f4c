"""What the Overview says of a run: key figures, findings, how it was captured, and where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from analyzer.device import Peak
from analyzer.diagnosis.finding import Diagnosis, Finding
from analyzer.measurement import measure_quartiles
from analyzer.run import DeviceSample, Run
from analyzer.summary import show_summary
from app.reports.modules import ModuleTime, module_times
from app.units import (
    MISSING,
    digits,
    evidence,
    evidence_label,
    gigaflops,
    mebibytes,
    milliseconds,
    percent,
    plural,
    printable,
    quantity,
)

HOT_OPS = 10


@dataclass(frozen=True, slots=True)
class KeyFigure:
    """One card. term: a name that app.components.term explains; tone: as in app.components.kpi."""

    label: str
    term: str
    value: str
    lines: tuple[str, ...]
    icon: str
    tone: str = ""
    measured: bool = True


@dataclass(frozen=True, slots=True)
class FindingView:
    """A finding in words: what was measured, and what mending it could give back, which is predicted."""

    id: str
    title: str
    about: str
    estimate: str
    interval: str
    basis: str
    share: str
    evidence: tuple[tuple[str, str], ...]
    optimizer: str


@dataclass(frozen=True, slots=True)
class Overview:
    """Everything but the figures, which are made from the run itself."""

    subtitle: tuple[str, ...]
    figures: tuple[KeyFigure, ...]
    hot_ops: tuple[dict[str, Any], ...]
    op_names: int
    between: str
    """Why the step takes longer than its ops; empty where it does not."""
    findings: tuple[FindingView, ...]
    modules: tuple[ModuleTime, ...]
    coverage: tuple[tuple[str, str, str], ...]
    notes: tuple[str, ...]
    environment: tuple[tuple[str, str, str], ...]
    device: tuple[tuple[str, str, str], ...]


def make_overview(run: Run, diagnosis: Diagnosis) -> Overview:
    """Return what the page says of a run."""
    summary = show_summary(run, HOT_OPS)
    return Overview(
        subtitle=_subtitle(run),
        figures=(_step_time(run), _throughput(run), _device_use(run), _peak_memory(run), _achieved(run)),
        hot_ops=_with_hottest(run, summary["ops"]),
        op_names=summary["op_names"],
        between=_between(run),
        findings=tuple(finding_view(finding, run) for finding in diagnosis.findings),
        modules=module_times(run.graph, limit=10),
        coverage=_coverage(run),
        notes=tuple(map(printable, run.notes)),
        environment=_environment(run),
        device=_device_samples(run.samples),
    )


def _with_hottest(run: Run, groups: Sequence[dict[str, Any]]) -> tuple[dict[str, Any], ...]:
    """Return the groups, each with the index of its slowest op: the one that a click selects."""
    slowest: dict[str, tuple[float, int]] = {}
    for op in run.graph.ops:
        seconds = op.self_seconds.median if op.self_seconds is not None else 0.0
        if op.name not in slowest or seconds > slowest[op.name][0]:
            slowest[op.name] = (seconds, op.index)
    return tuple({**group, "hottest": slowest[group["name"]][1]} for group in groups)


def _between(run: Run) -> str:
    step = run.step_seconds.median
    inside = sum(op.self_seconds.median for op in run.graph.ops if op.self_seconds is not None)
    if not 0 < inside < step:
        return ""
    rest = "Python and dispatch between the ops" if run.device.kind == "cpu" else "Python, dispatch and waiting"
    return (
        f"The ops' self times add up to {milliseconds(inside)}; the step takes {milliseconds(step)} by the wall clock, "
        f"unprofiled: the rest is {rest}."
    )


def _subtitle(run: Run) -> tuple[str, ...]:
    device = run.device
    where = device.name if device.kind != "cpu" else f"{device.name}, {plural(run.threads, 'thread')}"
    return ("Training" if run.training else "Inference", where, f"PyTorch {run.environment.torch}")


def _step_time(run: Run) -> KeyFigure:
    step = run.step_seconds
    return KeyFigure(
        "Step time",
        "step",
        milliseconds(step.median),
        (
            f"p95 {milliseconds(step.p95)}, p99 {milliseconds(step.p99)}",
            f"quartiles {milliseconds(step.low)} to {milliseconds(step.high)}, {plural(step.samples, 'step')}",
        ),
        "clock",
    )


def _throughput(run: Run) -> KeyFigure:
    return KeyFigure("Throughput", "throughput", f"{digits(run.throughput)}/s", ("items a second",), "flow")


def _device_use(run: Run) -> KeyFigure:
    if run.busy_seconds is None or run.idle_seconds is None:
        words = ("a CPU has no clock of its own for this; a GPU's kernels have",)
        return KeyFigure("Device use", "device use", "not measured", words, "gauge", measured=False)
    window = run.busy_seconds + run.idle_seconds
    busy = run.busy_seconds / window if window else 0.0
    idle = f"{milliseconds(run.idle_seconds)} idle of {milliseconds(window)}"
    kernels = f"{plural(len(run.kernels), 'kernel')} in the step"
    return KeyFigure("Device use", "device use", percent(busy), (idle, kernels), "gauge", "warn" if busy < 0.7 else "")


def _peak_memory(run: Run) -> KeyFigure:
    share = run.memory.peak_bytes / run.device.memory_bytes if run.device.memory_bytes else 0.0
    place = "device's" if run.device.kind != "cpu" else "machine's"
    part = f"{_part(share)} of the {place} {mebibytes(run.device.memory_bytes)}"
    return KeyFigure(
        "Peak memory", "peak memory", mebibytes(run.memory.peak_bytes), (part,), "memory", "warn" if share > 0.9 else ""
    )


def _achieved(run: Run) -> KeyFigure:
    """FLOPs of the graph over the step's time: what is known of the work, over what was measured of the time."""
    executed = [op for op in run.graph.ops if op.executes]
    counted = [op for op in executed if op.flops > 0]
    flops = sum(op.flops for op in counted)
    known = f"{percent(len(counted) / len(executed)) if executed else MISSING} of ops have a count"
    if not flops or not run.step_seconds.median:
        return KeyFigure("Achieved FLOP/s", "achieved FLOP/s", MISSING, (known,), "chip", measured=False)
    rate = flops / run.step_seconds.median
    lines = (_of_peak(rate, run.device.flops_per_second), f"{gigaflops(flops)} a step; {known}")
    return KeyFigure("Achieved FLOP/s", "achieved FLOP/s", flop_rate(rate), tuple(filter(None, lines)), "chip")


def _of_peak(rate: float, peak: Peak | None) -> str:
    if peak is None or not peak.value:
        return "the device's peak is not known"
    origin = "measured" if peak.source.startswith("measured") else "cited"
    return f"{_part(rate / peak.value)} of the {origin} peak, {flop_rate(peak.value)}"


def _part(share: float) -> str:
    return percent(share) if share >= 0.001 else "under 0.1 %"


def flop_rate(flops_per_second: float) -> str:
    """Return "112 GFLOP/s", from a thousand of them on "1.12 TFLOP/s"."""
    for size, unit in ((1e12, "TFLOP/s"), (1e9, "GFLOP/s"), (1e6, "MFLOP/s")):
        if flops_per_second >= size:
            return f"{digits(flops_per_second / size)} {unit}"
    return f"{digits(flops_per_second)} FLOP/s"


def finding_view(finding: Finding, run: Run) -> FindingView:
    """Return a finding in words."""
    estimate, step = finding.estimate, run.step_seconds.median
    share = estimate.mid / step if estimate.unit == "s" and step else None
    facts = (
        (evidence_label(name), evidence(name, value))
        for name, value in finding.evidence.items()
        if value not in ("", None) and not isinstance(value, list | tuple | dict)
    )
    return FindingView(
        id=finding.id,
        title=printable(finding.title),
        about=f"Rule {finding.rule}, {plural(len(finding.ops), 'op')}",
        estimate=quantity(estimate.mid, estimate.unit),
        interval=f"{quantity(estimate.low, estimate.unit)} to {quantity(estimate.high, estimate.unit)}",
        basis=estimate.basis,
        share=f"{percent(share)} of the step" if share is not None else "",
        evidence=tuple(facts),
        optimizer=finding.optimizer,
    )


def _coverage(run: Run) -> tuple[tuple[str, str, str], ...]:
    coverage, overhead = run.coverage, run.overhead
    return (
        ("Timed ops", percent(coverage.timed_ops), "ops of the graph that have a time"),
        ("Joined ops", percent(coverage.joined_ops), "executed ops whose tensors are known"),
        ("Categorised bytes", percent(coverage.categorised_bytes), "bytes at the peak of known category"),
        ("Overhead", f"{digits(overhead.median)}×", "CPU time of a step with its ops timed over a bare one"),
    )


def _environment(run: Run) -> tuple[tuple[str, str, str], ...]:
    device, versions = run.device, run.environment
    kind = "core" if device.kind == "cpu" else "multiprocessor"
    rows = [
        ("Workload", run.workload.name, f"source {run.workload.source_hash[:12]}"),
        ("Device", device.name, f"{device.kind}, {plural(device.cores, kind)}, {mebibytes(device.memory_bytes)}"),
    ]
    if device.flops_per_second is not None:
        rows.append(("Peak arithmetic", flop_rate(device.flops_per_second.value), device.flops_per_second.source))
    if device.bytes_per_second is not None:
        bandwidth = device.bytes_per_second
        rows.append(("Peak bandwidth", f"{digits(bandwidth.value / 1e9)} GB/s", bandwidth.source))
    rows += [
        ("CPU", versions.cpu, ", ".join(versions.cpu_features)),
        ("Threads", str(run.threads), ""),
        ("PyTorch", versions.torch, f"Python {versions.python}, Numba {versions.numba or 'none'}"),
        ("CUDA", versions.cuda or "none", f"driver {versions.driver}" if versions.driver else ""),
        ("System", versions.operating_system, ""),
    ]
    return tuple(rows)


def _device_samples(samples: Sequence[DeviceSample]) -> tuple[tuple[str, str, str], ...]:
    """Return medians of what the driver told during the timing pass; what it does not tell is left out."""
    readers = (
        ("Utilization", [sample.utilization for sample in samples], percent),
        ("Memory used", [sample.memory_used_bytes for sample in samples], mebibytes),
        ("Power", [sample.power_watts for sample in samples], lambda value: f"{digits(value)} W"),
        ("Temperature", [sample.temperature_celsius for sample in samples], lambda value: f"{value:.0f} °C"),
        ("SM clock", [sample.sm_clock_mhz for sample in samples], lambda value: f"{value:,.0f} MHz"),
    )
    rows = []
    for label, values, words in readers:
        known = [float(value) for value in values if value is not None]
        if known:
            spread = measure_quartiles(known, "")
            detail = f"{words(spread.low)} to {words(spread.high)}, {plural(len(known), 'reading')}"
            rows.append((label, words(spread.median), detail))
    return tuple(rows)
