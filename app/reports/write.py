"""Write a report into a file, whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from analyzer.diagnosis.finding import Diagnosis
from analyzer.errors import HotbenchError
from app.figures import bars, lines
from app.figures import experiment as experiment_figures
from app.figures.roofline import points_of, roofline
from app.reports.document import Document
from app.reports.experiment_document import experiment_document, predicted_speedup
from app.reports.regions import ROOFLINE
from app.reports.render import render_html, render_markdown
from app.reports.run_document import run_document
from app.views.regions import regions_view

if TYPE_CHECKING:
    from analyzer.experiment import Experiment
    from analyzer.run import Run
    from optimizers.plan import Candidate

SUFFIXES = (".html", ".md")


class ReportError(HotbenchError):
    """A report that cannot be written where it should go."""


def check_target(path: Path) -> None:
    """Raise ReportError when `path` has another suffix, or its folder is missing: before any work is done."""
    if path.suffix.lower() not in SUFFIXES:
        raise ReportError(f"cannot write a report to {path.name!r}: give a name that ends in {' or '.join(SUFFIXES)}")
    if path.is_dir():
        raise ReportError(f"{str(path)!r} is a folder; give the name of a file")
    if not path.absolute().parent.is_dir():
        raise ReportError(f"no folder {str(path.parent)!r} for the report; make it first")


def write_run_report(run: Run, diagnosis: Diagnosis, ops: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write the report of a run; `ops` as in the JSON of `show`. Raises ReportError."""
    check_target(path)
    _write(path, _render(run_document(run, diagnosis, ops), run_figures(run, ops), path))


def write_experiment_report(experiment: Experiment, candidate: Candidate | None, run: Run, path: Path) -> None:
    """Write the report of an experiment. Raises ReportError."""
    check_target(path)
    document = experiment_document(experiment, candidate, run)
    _write(path, _render(document, proof_figures(experiment, candidate, run), path))


def run_figures(run: Run, ops: Sequence[Mapping[str, Any]]) -> dict[str, go.Figure]:
    """Return the figures that a run's report refers to."""
    figures = {"hot_ops": bars.hot_ops(ops), "memory": bars.memory_at_peak(run.memory.at_peak)}
    if run.memory.timeline:
        figures["live_bytes"] = lines.live_bytes(run.memory.timeline)
    return figures


def proof_figures(experiment: Experiment, candidate: Candidate | None, run: Run | None = None) -> dict[str, go.Figure]:
    """Return the figures that an experiment's report refers to; none where nothing was measured.

    run: what the candidate was made of, for the roofline of its regions.
    """
    if not experiment.before_seconds:
        return {}
    return {**_compared(experiment, candidate), **_rooflines(experiment, candidate, run)}


def _rooflines(experiment: Experiment, candidate: Candidate | None, run: Run | None) -> dict[str, go.Figure]:
    view = regions_view(experiment.id, candidate, run) if candidate is not None and run is not None else None
    points = points_of(view) if view is not None else []
    if view is None or not points:
        return {}
    return {ROOFLINE: roofline(points, view.flops_per_second, view.bytes_per_second)}


def _compared(experiment: Experiment, candidate: Candidate | None) -> dict[str, go.Figure]:
    predicted = predicted_speedup(candidate.applied) if candidate is not None else None
    return {
        "speedup": experiment_figures.speedup(
            experiment.speedup, experiment.noise_floor, predicted, experiment.verdict
        ),
        "distributions": experiment_figures.distributions(
            experiment.before_seconds, experiment.after_seconds, experiment.again_seconds
        ),
    }


def _render(document: Document, figures: Mapping[str, go.Figure], path: Path) -> str:
    if path.suffix.lower() == ".md":
        return render_markdown(document)
    return render_html(document, figures, get_plotlyjs())


def _write(path: Path, text: str) -> None:
    """Write beside the target and rename at the end: an existing file stays until the new one is whole."""
    temporary: Path | None = None
    try:
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=path.absolute().parent, prefix=f".{path.name}.", suffix=".partial", delete=False
        ) as stream:
            temporary = Path(stream.name)
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except OSError as error:
        raise ReportError(
            f"cannot write the report to {path}: {error.strerror or error}; free space or choose another place"
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
