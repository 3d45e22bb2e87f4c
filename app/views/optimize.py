"""What the Optimize page shows: options as fields, a plan, and what became of each request."""

from __future__ import annotations

import dataclasses
import shlex
import types
import typing
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from analyzer.errors import HotbenchError
from analyzer.measurement import Estimate
from app.jobs.job import Job
from app.store.entry import Entry
from app.units import printable

if TYPE_CHECKING:
    from analyzer.diagnosis.finding import Diagnosis
    from analyzer.run import Run
    from optimizers.plan import Options, Plan, Refusal, Target

_MOST_MODULES = 3

FieldKind = Literal["switch", "choice", "number", "whole number", "text"]


@dataclass(frozen=True, slots=True)
class OptionField:
    """One option as a form shows it. Values are text, as on the command line; default "" stands for None."""

    name: str
    label: str
    kind: FieldKind
    default: str
    help: str = ""
    optional: bool = False
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TargetView:
    """One thing that a plan takes or leaves alone. modules: where in the model its ops are, the most frequent first."""

    title: str
    ops: int
    first_op: int | None
    estimate: Estimate | None
    refusal: str
    modules: tuple[str, ...] = ()
    compile_seconds: Estimate | None = None


@dataclass(frozen=True, slots=True)
class PlanView:
    """What one optimizer would do to the run, or why it refuses (then there is no estimate)."""

    optimizer: str
    summary: str
    estimate: Estimate | None
    refusal: str
    taken: tuple[TargetView, ...]
    left: tuple[TargetView, ...]
    compile_seconds: Estimate | None = None


@dataclass(frozen=True, slots=True)
class Attempt:
    """One request: the job that does or did it, the experiment that came of it, or both."""

    names: tuple[str, ...]
    created: str
    job: Job | None = None
    experiment: Entry | None = None

    @property
    def refusal(self) -> str:
        """Return why the optimizers refused, "" if they did not."""
        result = self.job.result if self.job is not None else None
        if result is None or result.get("experiment") is not None:
            return ""
        return str(result.get("reason", ""))


def option_fields(options: type[Options]) -> tuple[OptionField, ...]:
    """Return a form's fields, derived from an optimizer's own dataclass."""
    hints = typing.get_type_hints(options)
    return tuple(_field(item, hints[item.name]) for item in dataclasses.fields(options))


def _field(item: dataclasses.Field[Any], hint: Any) -> OptionField:
    optional = False
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        inner = [argument for argument in typing.get_args(hint) if argument is not type(None)]
        optional, hint = len(inner) < len(typing.get_args(hint)), inner[0]
    choices: tuple[str, ...] = ()
    if typing.get_origin(hint) is Literal:
        kind: FieldKind = "choice"
        choices = tuple(str(choice) for choice in typing.get_args(hint))
    else:
        kinds: dict[Any, FieldKind] = {bool: "switch", int: "whole number", float: "number"}
        kind = kinds.get(hint, "text")
    default = _default(item)
    text = "" if default is None else str(default).lower() if isinstance(default, bool) else str(default)
    label = item.name.replace("_", " ").capitalize()
    return OptionField(item.name, label, kind, text, str(item.metadata.get("help", "")), optional, choices)


def _default(item: dataclasses.Field[Any]) -> Any:
    return item.default_factory() if item.default_factory is not dataclasses.MISSING else item.default


def settings_of(optimizer: str, fields: Sequence[OptionField], values: Mapping[str, object]) -> dict[str, str]:
    """Return {"fusion.min_gain": "0.05"} of a form's values: of those alone that differ from the default."""
    settings = {}
    for item in fields:
        value = values.get(item.name)
        text = str(value).lower() if isinstance(value, bool) else str(value if value is not None else "").strip()
        if text == "" and item.optional:
            text = "none" if item.default else ""
        if text != item.default:
            settings[f"{optimizer}.{item.name}"] = text
    return settings


def option_error(optimizer: str, settings: Mapping[str, str], key: str = "") -> str:
    """Return in words what is wrong with the settings (or with the one named `key`); "" if nothing is."""
    from optimizers.settings import read_options

    chosen = settings if not key else {name: text for name, text in settings.items() if name == key}
    try:
        read_options([optimizer], chosen)
    except HotbenchError as error:
        text = str(error)
        for name, value in chosen.items():
            text = text.removeprefix(f"--set {name}={value}: ")
        return text
    return ""


def read_max_error(text: object) -> float | None:
    """Return the largest relative error that a person allows; None where nothing is written.

    Raises HotbenchError for what is no number of 0 or more.
    """
    written = str(text if text is not None else "").strip()
    if not written:
        return None
    try:
        value = float(written)
    except ValueError:
        value = -1.0
    if not 0.0 <= value < float("inf"):
        raise HotbenchError(f"{written!r} is no relative error; write a number from 0 on, such as 1e-5")
    return value


def command(run: str, names: Sequence[str], settings: Mapping[str, str], max_error: float | None = None) -> str:
    """Return the command that does the same as the button."""
    text = f"hotbench optimize {run} --with {','.join(names)}"
    text += "".join(f" --set {shlex.quote(f'{key}={value}')}" for key, value in settings.items())
    return text + (f" --max-error {max_error!r}" if max_error is not None else "")


def plan_view(answer: Plan | Refusal, run: Run | None = None) -> PlanView:
    """Return what a plan or a refusal shows; targets that save most first, as the plan has them.

    run: whose ops the targets number, for the modules that they are in.
    """
    from optimizers.plan import Refusal

    if isinstance(answer, Refusal):
        return PlanView(answer.optimizer, "", None, answer.reason, (), ())
    targets = [
        TargetView(
            target.title,
            len(target.ops),
            min(target.ops, default=None),
            target.estimate,
            target.refusal,
            _modules(target, run),
            target.compile_seconds,
        )
        for target in answer.targets
    ]  # fmt: skip
    taken = tuple(target for target in targets if not target.refusal)
    left = tuple(target for target in targets if target.refusal)
    return PlanView(answer.optimizer, answer.summary, answer.estimate, "", taken, left, answer.compile_seconds)


def _modules(target: Target, run: Run | None) -> tuple[str, ...]:
    if run is None:
        return ()
    ops = run.graph.ops
    counts = Counter(ops[k].scope for k in target.ops if 0 <= k < len(ops) and ops[k].scope)
    shown = tuple(printable(name) for name, _ in counts.most_common(_MOST_MODULES))
    return (*shown, f"and {len(counts) - _MOST_MODULES} more") if len(counts) > _MOST_MODULES else shown


def answered(diagnosis: Diagnosis, optimizer: str) -> tuple[str, ...]:
    """Return the ids of the findings that the optimizer answers."""
    return tuple(finding.id for finding in diagnosis.findings if finding.optimizer == optimizer)


def attempts(run: str, entries: Iterable[Entry], jobs: Iterable[Job]) -> tuple[Attempt, ...]:
    """Return every request for the run, the newest first: jobs, and experiments made from the command line."""
    known = {entry.id: entry for entry in entries}
    experiments = {
        entry.id: (entry, tuple(known[entry.parent].summary.get("optimizers", ())))
        for entry in known.values()
        if entry.kind == "experiment" and entry.parent in known and _is_candidate_of(known[entry.parent], run)
    }
    found = []
    for job in jobs:
        if job.kind != "optimize" or job.arguments.get("run") != run:
            continue
        made = str((job.result or {}).get("experiment") or "")
        entry = experiments.pop(made, (None, ()))[0]
        names = tuple(sorted(str(name) for name in job.arguments.get("optimizers", ())))
        found.append(Attempt(names, job.created, job, entry))
    found += [Attempt(tuple(sorted(names)), entry.created, None, entry) for entry, names in experiments.values()]
    return tuple(sorted(found, key=lambda attempt: attempt.created, reverse=True))


def signature(attempts: Sequence[Attempt]) -> str:
    """Return a text that changes with what the page shows of the attempts."""
    parts = ((item.job.id, item.job.state) if item.job else ("", "") for item in attempts)
    experiments = (item.experiment.id if item.experiment else "" for item in attempts)
    return ";".join(f"{id} {state} {made}" for (id, state), made in zip(parts, experiments, strict=True))


def _is_candidate_of(entry: Entry, run: str) -> bool:
    return entry.kind == "candidate" and entry.parent == run


def of_names(everything: Iterable[Attempt], names: Sequence[str]) -> tuple[Attempt, ...]:
    """Return the attempts of exactly these optimizers."""
    return tuple(attempt for attempt in everything if attempt.names == tuple(sorted(names)))
