"""What pages show of an experiment: its verdict, its figures, and the prediction beside the measurement."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from analyzer.measurement import Estimate, Measurement, measure_quartiles
from app.reports.experiment_document import TONES, predicted_speedup
from app.store.entry import Entry
from app.store.keeps import PROVEN
from app.units import mebibytes, milliseconds, percent, plural, ratio, verdict_reason

if TYPE_CHECKING:
    from analyzer.experiment import Accuracy, Experiment
    from optimizers.plan import Applied, Candidate


@dataclass(frozen=True, slots=True)
class ProofView:
    """An experiment in short. Figures are text with their units; "–" where nothing was measured."""

    id: str
    verdict: str
    tone: str
    reason: str
    speedup: Measurement
    noise_floor: Measurement
    before_seconds: tuple[float, ...]
    after_seconds: tuple[float, ...]
    again_seconds: tuple[float, ...]
    predicted: Estimate | None
    explanation: tuple[str, ...]
    facts: tuple[tuple[str, str, str], ...]
    """(label, value, detail)"""
    verdicts: tuple[tuple[str, str, str], ...]
    """(of what, word, tone)"""
    headline: str
    notes: tuple[str, ...]

    @property
    def proven(self) -> bool:
        """Return whether it may be kept and exported."""
        return self.verdict in PROVEN

    @property
    def measured(self) -> bool:
        """Return whether anything was timed."""
        return bool(self.before_seconds)


@dataclass(frozen=True, slots=True)
class ExperimentRow:
    """One line of the list."""

    id: str
    name: str
    optimizers: str
    verdict: str
    tone: str
    speedup: float | None
    low: float | None
    high: float | None
    created: str
    run: str | None


def proof_view(experiment: Experiment, candidate: Candidate | None) -> ProofView:
    """Return what an experiment shows; without a candidate it compares two runs."""
    applied = candidate.applied if candidate is not None else ()
    predicted = predicted_speedup(applied)
    return ProofView(
        id=experiment.id,
        verdict=experiment.verdict,
        tone=TONES.get(experiment.verdict, "warn"),
        reason=_reason(experiment),
        speedup=experiment.speedup,
        noise_floor=experiment.noise_floor,
        before_seconds=experiment.before_seconds,
        after_seconds=experiment.after_seconds,
        again_seconds=experiment.again_seconds,
        predicted=predicted,
        explanation=explain(predicted, experiment.speedup, applied) if predicted is not None else (),
        facts=_facts(experiment),
        verdicts=tuple((name, word, _WORD_TONES.get(word, "")) for name, word in experiment.verdicts.items()),
        headline=_headline(experiment),
        notes=experiment.notes,
    )


_SHOWN_AS_FACTS = re.compile(r"[\d.]+x \(|peak memory [\d.]+x$|size [\d.]+x$")


def _reason(experiment: Experiment) -> str:
    """Return the reason without the figures that stand among the facts below it."""
    parts = experiment.reason.removeprefix(f"{experiment.verdict}: ").split("; ")
    rest = [part for part in parts if not (experiment.before_seconds and _SHOWN_AS_FACTS.match(part))]
    text = verdict_reason(experiment.verdict, "; ".join(rest or parts))
    return text[:1].upper() + text[1:]


_WORD_TONES = {
    "faster": "good",
    "smaller": "good",
    "passed": "good",
    "slower": "bad",
    "failed": "bad",
    "larger": "warn",
}


def _headline(experiment: Experiment) -> str:
    """Return the finding in one short sentence for people."""
    if not experiment.before_seconds:
        return "It did not run"
    before = milliseconds(measure_quartiles(experiment.before_seconds, "s").median)
    after = milliseconds(measure_quartiles(experiment.after_seconds, "s").median)
    times = f"a step takes {after} instead of {before}"
    words = {
        "faster": f"{ratio(experiment.speedup.median)} faster: {times}",
        "slower": f"Slower: {times}",
        "smaller": f"Smaller, and not slower than allowed: {times}",
        "inconclusive": f"No difference that this machine can tell from noise: {times}",
        "refused": "Its answers are not the same as before",
    }
    return words.get(experiment.verdict, times)


def _facts(experiment: Experiment) -> tuple[tuple[str, str, str], ...]:
    accuracy, speedup = experiment.accuracy, experiment.speedup
    if not experiment.before_seconds:
        return ()
    before = measure_quartiles(experiment.before_seconds, "s").median
    after = measure_quartiles(experiment.after_seconds, "s").median
    peak = f"{mebibytes(experiment.peak_bytes_before)} → {mebibytes(experiment.peak_bytes_after)}"
    agreement = "" if accuracy.agreement is None else f", same arg-max {percent(accuracy.agreement, 2)}"
    return (
        ("Speedup", ratio(speedup.median), f"95 % interval {ratio(speedup.low)} to {ratio(speedup.high)}"),
        ("Step time", milliseconds(after), f"before {milliseconds(before)}"),
        ("Peak memory", percent(experiment.memory_ratio), f"of before: {peak}"),
        ("Model size", percent(experiment.size_ratio), "of before: parameters and buffers"),
        _answers(accuracy, f"over {plural(accuracy.inputs, 'fresh input')}", agreement),
    )


def _answers(accuracy: Accuracy, over: str, agreement: str) -> tuple[str, str, str]:
    """Return how close the answers are: cosine and agreement where those are asked for, else the largest error."""
    if accuracy.gate is None:
        return (
            "Largest relative error",
            f"{accuracy.max_rel:.2g}",
            f"allowed {accuracy.tolerance:.2g}, {over}{agreement}",
        )
    return "Cosine", f"{accuracy.cosine:.5g}", f"{accuracy.reason}; {over}"


def explain(predicted: Estimate, measured: Measurement, applied: Sequence[Applied]) -> tuple[str, ...]:
    """Return sentences that set the prediction beside the measurement, and say what the difference comes from."""
    return (_distance(predicted, measured), f"Predicted from: {predicted.basis}.", *_decided(applied))


def _distance(predicted: Estimate, measured: Measurement) -> str:
    spread = f"the predicted {ratio(predicted.low)} to {ratio(predicted.high)}"
    if math.isnan(measured.median):
        return f"Nothing was measured to set beside {spread}."
    off = predicted.mid / measured.median - 1
    error = f"the middle of the prediction, {ratio(predicted.mid)}, is {percent(abs(off))} too {_word(off)}"
    if measured.median < predicted.low:
        return f"Measured {ratio(measured.median)} lies below {spread}: {error}."
    if measured.median > predicted.high:
        return f"Measured {ratio(measured.median)} lies above {spread}: {error}."
    return f"Measured {ratio(measured.median)} lies within {spread}: {error}."


def _word(off: float) -> str:
    return "high" if off > 0 else "low"


def _decided(applied: Sequence[Applied]) -> tuple[str, ...]:
    """Return what was found out while applying, which no prediction could know."""
    sentences = []
    for item in applied:
        choices = [choice for choice in item.decisions.get("choices", ()) if isinstance(choice, dict)]
        dropped = [choice for choice in choices if choice.get("kept") is False]
        if choices:
            text = f"While applying, {len(choices) - len(dropped)} of {plural(len(choices), 'kernel')} proved faster"
            text += " than the library and stayed" if not dropped else f"; {len(dropped)} went back to the library"
            sentences.append(f"{text}.")
        sentences += _kernel_times(choices)
        alone = item.decisions.get("eager_over_fused")
        if isinstance(alone, dict) and _is_number(alone.get("ratio")):
            sentences.append(
                f"Measured while applying, in one process: {ratio(alone['ratio'])}; "
                "the experiment above ran each side in processes of its own, and it is what counts."
            )
    return tuple(sentences)


def _kernel_times(choices: Sequence[dict[str, Any]]) -> list[str]:
    """Return what the kept kernels take beside the ops that they replace, as it was measured one by one."""
    keys = ("calls", "first_seconds", "second_seconds")
    timed = [item for item in choices if item.get("kept") and all(_is_number(item.get(key)) for key in keys)]
    if not timed:
        return []
    before = sum(item["calls"] * item["first_seconds"] for item in timed)
    after = sum(item["calls"] * item["second_seconds"] for item in timed)
    times = f"{milliseconds(after)} a step where the ops that they replace took {milliseconds(before)}"
    return [f"Measured one by one while applying: the kept kernels take {times}."]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def keep_words(proven: bool, verdict: str, kept: bool, ended_by: str = "") -> str:
    """Return in words whether an experiment is kept for its run, and why or why not."""
    if kept:
        return "Kept: this is the version of the model that the run's pages name as its result."
    if proven:
        who = f" ({ended_by} undid it)" if ended_by else ""
        return f"Not kept{who}. The measurement stands: it can be kept at any time."
    reasons = {
        "slower": "it made the step slower",
        "inconclusive": "the difference is within what this machine calls noise",
        "refused": "its answers differ too much, or it did not run",
    }
    return f"Not kept: {reasons.get(verdict, verdict)}. Only what is proven faster or smaller can be kept."


def experiment_rows(entries: Sequence[Entry], speedups: dict[str, Measurement | None]) -> tuple[ExperimentRow, ...]:
    """Return the list of experiments, newest first; `speedups` by id, for those whose folder can be read."""
    known = {entry.id: entry for entry in entries}
    rows = []
    for entry in entries:
        if entry.kind != "experiment":
            continue
        parent = known.get(entry.parent or "")
        is_candidate = parent is not None and parent.kind == "candidate"
        names = parent.summary.get("optimizers", ()) if parent is not None and is_candidate else ()
        measured = speedups.get(entry.id)
        verdict = str(entry.summary.get("verdict", ""))
        rows.append(
            ExperimentRow(
                id=entry.id,
                name=entry.name,
                optimizers=", ".join(names) if is_candidate else "comparison of two runs",
                verdict=verdict,
                tone=TONES.get(verdict, "warn"),
                speedup=_finite(measured.median) if measured is not None else None,
                low=_finite(measured.low) if measured is not None else None,
                high=_finite(measured.high) if measured is not None else None,
                created=entry.created,
                run=parent.parent if parent is not None and is_candidate else entry.parent,
            )
        )
    return tuple(rows)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
