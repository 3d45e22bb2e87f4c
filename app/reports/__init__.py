"""Reports of runs and experiments: one HTML file that works offline, or Markdown."""

from app.reports.write import write_experiment_report, write_run_report

__all__ = ["write_experiment_report", "write_run_report"]
