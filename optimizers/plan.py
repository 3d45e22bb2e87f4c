"""What every optimizer takes and gives: options, a plan, a candidate, or a refusal in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

from analyzer.diagnosis.finding import Diagnosis
from analyzer.measurement import Estimate
from analyzer.progress import Progress, silent
from analyzer.reference import WorkloadReference
from analyzer.run import Run

if TYPE_CHECKING:
    from pathlib import Path

    from analyzer.launch import Launch
    from analyzer.workload import Workload

FORMAT_VERSION = 1


@dataclass(frozen=True)
class Options:
    """Base of every optimizer's options: a frozen dataclass of plain fields, each with a default and, in
    `field(metadata={"help": …})`, one line of help. The command line and the page's forms are derived from it.
    """


@dataclass(frozen=True, slots=True)
class Target:
    """One thing that a plan would touch: ops of the run (indices into Graph.ops), and what would become of them."""

    title: str
    ops: tuple[int, ...]
    estimate: Estimate | None = None
    refusal: str = ""
    """Why this target is left alone; "" if it is taken."""
    compile_seconds: Estimate | None = None
    """What making its code would take; None where nothing is compiled."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What an optimizer would do to a run. Nothing has been changed yet."""

    id: str
    parent: str
    """The Run's id."""
    optimizer: str
    options: dict[str, Any]
    targets: tuple[Target, ...]
    estimate: Estimate
    """Predicted speedup (unit "x"), or what the optimizer gives back (unit "bytes")."""
    summary: str
    format_version: int = FORMAT_VERSION
    compile_seconds: Estimate | None = None
    """What applying it would take before anything is measured; None where that is not predicted."""
    reference: WorkloadReference | None = None
    """The run's workload, for an optimizer whose workers build it again in processes of their own."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an optimizer does not do it: one line that the user sees."""

    optimizer: str
    reason: str


@dataclass(frozen=True, slots=True)
class Applied:
    """One plan carried out. `decisions` (plain JSON) and `blobs` are all that repeating it exactly needs."""

    plan: Plan
    decisions: dict[str, Any]
    blobs: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A workload's reference and the plans applied to it, in order."""

    id: str
    parent: str
    """The Run's id."""
    reference: WorkloadReference
    applied: tuple[Applied, ...]
    notes: tuple[str, ...] = ()
    format_version: int = FORMAT_VERSION


class Optimizer(Protocol):
    """What a file in optimizers/ provides; registered in registry.py."""

    name: ClassVar[str]
    """Stable id: in URLs, saved plans and on the command line."""
    options: ClassVar[type[Options]]

    def plan(self, run: Run, diagnosis: Diagnosis, options: Options) -> Plan | Refusal:
        """Return what would be done to `run`, with an Estimate, or why not. Changes nothing."""
        ...

    def apply(self, workload: Workload, plan: Plan, progress: Progress = silent) -> tuple[Workload, Applied] | Refusal:
        """Return the optimized workload and how to repeat it. Owns the Workload that it is given."""
        ...

    def rebuild(self, workload: Workload, applied: Applied) -> Workload:
        """Repeat `applied` exactly on a fresh workload. Raises RecordError when a hash differs."""
        ...


@runtime_checkable
class LaunchesItself(Protocol):
    """An optimizer whose candidates are not one process, and whose baseline is not the workload as it is."""

    def apply_after(
        self, earlier: tuple[Applied, ...], workload: Workload, plan: Plan, progress: Progress = silent
    ) -> tuple[Workload, Applied] | Refusal:
        """Return what `apply` does. earlier: what was applied to the workload before, for processes of its own."""
        ...

    def launches(
        self, reference: WorkloadReference, folder: Path, applied: Applied, threads: int
    ) -> tuple[Launch, Launch]:
        """Return the launches of the baseline and of the candidate that is saved in `folder`."""
        ...
