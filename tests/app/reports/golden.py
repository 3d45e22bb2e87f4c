"""The reports of the values made by hand, as golden files keep them (without plotly's own script)."""

from __future__ import annotations

import re

from app.reports.experiment_document import experiment_document
from app.reports.render import render_html, render_markdown
from app.reports.run_document import run_document
from app.reports.write import proof_figures, run_figures
from tests.app.values import report_candidate, report_diagnosis, report_experiment, report_ops, report_run


def golden_reports() -> dict[str, str]:
    """Return file name -> text of every golden report."""
    run = report_run()
    candidate = report_candidate(run)
    experiment = report_experiment(run, candidate)
    documents = {
        "run": (run_document(run, report_diagnosis(run), report_ops()), run_figures(run, report_ops())),
        "experiment": (experiment_document(experiment, candidate, run), proof_figures(experiment, candidate)),
    }
    files = {}
    for name, (document, figures) in documents.items():
        files[f"report_{name}.md"] = render_markdown(document)
        files[f"report_{name}.html"] = _apart_from_figures(render_html(document, figures, "/* plotly */"))
    return files


def _apart_from_figures(page: str) -> str:
    """Drop the figures' JSON, which follows plotly's version, and style sheet and script, which are files already."""
    page = re.sub(r'(<script type="application/json"[^>]*>).*?(</script>)', r"\1{}\2", page, flags=re.DOTALL)
    page = re.sub(r"(<style>).*?(</style>)", r"\1\2", page, flags=re.DOTALL)
    return re.sub(r"(<script>\n).*?(</script>)", r"\1\2", page, flags=re.DOTALL)
