"""The process of one job on a worker: `python -m app.worker.task REQUEST.json`, core packages alone.

The request names folders that the server sent and the worker's own workload file; the result is written as
`result.json` beside the values. Paths inside what was sent are another machine's: they are replaced, never opened.
"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from analyzer.cli import Terminated, terminating
from analyzer.errors import HotbenchError
from analyzer.progress import print_json
from analyzer.record import dump_json, to_plain
from app.worker.duties import ERROR, RESULT

Request = Mapping[str, Any]


def optimize(request: Request, output: Path) -> dict[str, Any]:
    """Apply optimizers to a run's workload, prove the result; candidate and experiment go into `output`."""
    from analyzer.experiment import save_experiment
    from optimizers import pipeline

    run = _run(request["inputs"]["run"], request["workloads"]["run"])
    outcome = pipeline.optimize(
        run,
        request["optimizers"],
        request["settings"],
        output / "candidate",
        request["max_error"],
        print_json,
    )
    if outcome.experiment is not None:
        save_experiment(outcome.experiment, output / "experiment")
    return pipeline.optimize_summary(outcome)


def compare(request: Request, output: Path) -> dict[str, Any]:
    """Measure two runs' workloads anew against each other; the experiment, if there is one, goes into `output`."""
    from analyzer.comparison import compare_runs
    from analyzer.experiment import save_experiment
    from app.comparison import comparison_summary

    before = _run(request["inputs"]["before"], request["workloads"]["before"])
    after = _run(request["inputs"]["after"], request["workloads"]["after"])
    comparison = compare_runs(before, after, progress=print_json)
    if comparison.experiment is not None:
        save_experiment(comparison.experiment, output / "experiment")
    return comparison_summary(comparison)


def export(request: Request, output: Path) -> dict[str, Any]:
    """Write the artifact of a proven candidate, or one of its kernels, into `output`; an artifact is loaded anew."""
    from analyzer.experiment import load_experiment
    from optimizers.artifact import export_artifact
    from optimizers.candidate import load_candidate

    candidate = load_candidate(Path(request["inputs"]["candidate"]))
    reference = replace(candidate.reference, path=_file(request["workloads"]["candidate"]))
    experiment = load_experiment(Path(request["inputs"]["experiment"]))
    if region := request.get("region"):
        from optimizers.reproducer import export_reproducer

        print_json("build the model again and take the kernel's memory from a run of it", 0.1)
        threads = experiment.baseline.threads
        made = export_reproducer(replace(candidate, reference=reference), region, output / "reproducer", threads)
        return {**to_plain(made), "region": made.kernel}
    print_json("write the artifact and load it in a fresh process", 0.1)
    artifact = export_artifact(
        replace(candidate, reference=reference), experiment, output / "artifact", request.get("format") or "torch"
    )
    return {**to_plain(artifact), "artifact": artifact.artifact}


TASKS: Mapping[str, Callable[[Request, Path], dict[str, Any]]] = {
    "optimize": optimize,
    "compare": compare,
    "export": export,
}


def main() -> int:
    """Do what the request says; return 0, or 2 with one line on stderr."""
    request = json.loads(Path(sys.argv[1]).read_bytes())
    output = Path(request["output"])
    try:
        with terminating():
            result = TASKS[request["kind"]](request, output)
            (output / RESULT).write_bytes(dump_json(to_plain(result)))
        return 0
    except HotbenchError as error:
        print(f"{ERROR}{error}", file=sys.stderr, flush=True)
        return 2
    except (KeyboardInterrupt, Terminated):
        return 128 + signal.SIGTERM


def _run(folder: str, workload: str) -> Any:
    from analyzer.run import load_run

    run = load_run(Path(folder))
    return replace(run, workload=replace(run.workload, path=_file(workload)))


def _file(workload: str) -> str:
    return workload.rpartition(":")[0]


if __name__ == "__main__":
    sys.exit(main())
