"""Swap as an optimizer: options, refusals, candidates that are rebuilt, artifacts that need torch alone."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from analyzer.errors import HotbenchError, RecordError
from analyzer.measurement import Estimate
from analyzer.peak import peak_live_bytes
from analyzer.workload import Stepper, Workload, load_workload, rebuild_workload
from optimizers.plan import Applied, Plan, Refusal
from optimizers.registry import optimizer_named
from optimizers.settings import read_options
from optimizers.swap.export import PLAN_FILE, artifact_files, check_files
from optimizers.swap.optimizer import VIEW_FILE, SwapOptimizer, SwapOptions
from optimizers.swap.plan import plan
from optimizers.swap.views import decode_view
from tests.optimizers.swap.training_models import training, weights_after

SOURCE = """
from tests.optimizers.swap.training_models import training

def attentive():
    return training("attentive")
"""


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def plan_for(budget: str) -> Plan:
    options = {"budget": budget, "allow": "swap,recompute", "max_slowdown": 0.25, "folder": "", "compact": False}
    return Plan("plan-1", "run-1", "swap", options, (), Estimate(0, 0, 0, "bytes", "none"), "")


def applied_to(workload: Workload, budget: str) -> Applied:
    answer = SwapOptimizer().apply(workload, plan_for(budget))
    assert not isinstance(answer, Refusal), answer.reason
    return answer[1]


def test_it_is_registered() -> None:
    assert isinstance(optimizer_named("swap"), SwapOptimizer)
    options = read_options(["swap"], {"swap.budget": "2GiB", "swap.allow": "swap"})["swap"]
    assert options == SwapOptions(budget="2GiB", allow="swap")


@pytest.mark.parametrize("option", [{"budget": "much"}, {"allow": "hope"}, {"allow": ""}, {"max_slowdown": -1.0}])
def test_bad_options_are_refused_with_their_value(option: dict[str, object]) -> None:
    with pytest.raises(HotbenchError, match=next(iter(option))):
        SwapOptions(**option)  # type: ignore[arg-type]


def test_an_impossible_budget_is_refused_with_the_smallest_that_works() -> None:
    answer = SwapOptimizer().apply(training("recurrent"), plan_for("1%"))
    assert isinstance(answer, Refusal)
    assert "the smallest that works is" in answer.reason


def test_a_candidate_is_rebuilt_and_its_artifact_works_without_hotbench(tmp_path: Path) -> None:
    source = tmp_path / "workloads.py"
    source.write_text(SOURCE)
    workload, reference = load_workload(f"{source}:attentive")
    done = applied_to(workload, "70%")
    # What lives in this process counts.
    del workload
    rebuilt = SwapOptimizer().rebuild(rebuild_workload(reference), done)
    assert peak_live_bytes(Stepper(rebuilt)) <= done.decisions["peak_bytes_before"] * 0.7
    fresh = SwapOptimizer().rebuild(rebuild_workload(reference), done)
    assert weights_after(fresh, 2) == weights_after(rebuild_workload(reference), 2)

    view = decode_view(done.blobs[VIEW_FILE])
    assert view.moves
    assert max(view.measured_bytes) == done.decisions["peak_bytes_measured"]
    again = plan(view.timeline(), view.budget_bytes, view.tiers, view.allow)
    assert not isinstance(again, Refusal)

    folder = tmp_path / "artifact"
    for name, content in artifact_files(done.blobs[PLAN_FILE]).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    assert check_files(folder, reference) == 0.0
    code = (
        "import runpy, sys, torch\n"
        "model = torch.nn.Linear(2, 2)\n"
        "try:\n    runpy.run_path(sys.argv[1])['apply'](model, None)\n"
        "except Exception as error:\n    print(error)\n"
        "assert not any(name.split('.')[0] in ('analyzer', 'optimizers', 'kernels') for name in sys.modules)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-I", "-c", code, str(folder / "load.py")], capture_output=True, text=True, timeout=300
    )
    assert "the plan is for another model" in ran.stdout, ran.stderr

    with pytest.raises(RecordError, match="for another model"):
        SwapOptimizer().rebuild(training("recurrent"), done)
    with pytest.raises(RecordError, match="has no swap_plan"):
        SwapOptimizer().rebuild(rebuild_workload(reference), Applied(done.plan, done.decisions))
