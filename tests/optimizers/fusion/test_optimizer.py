"""Plan, apply and rebuild: predictions from a run, decisions that repeat exactly or are refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from analyzer.diagnosis.finding import Diagnosis
from analyzer.errors import HotbenchError, RecordError
from analyzer.record import to_plain
from analyzer.workload import Workload, load_workload
from optimizers.fusion.optimizer import Fusion, FusionOptions
from optimizers.fusion.plan import stretches
from optimizers.fusion.proof_record import FILE
from optimizers.plan import Applied, Plan, Refusal
from optimizers.registry import OPTIMIZERS, ORDER, optimizer_named
from tests.synthetic import Call, make_run

SOURCE = """
import torch
from analyzer.workload import Workload, seeded

class Chain(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(24, 24) / 5)

    def forward(self, x):
        h = x
        for _ in range(12):
            h = torch.tanh(h @ self.weight) * torch.sigmoid(h) + 0.1 * x
        return h

def workload():
    return Workload(model=Chain(), inputs=lambda seed: ((torch.randn(1, 24, generator=seeded(seed)),), {}))
"""

DIAGNOSIS = Diagnosis("diagnosis-0", "run-0", ())


def _plan(calls: list[Call], **fields: object) -> Plan | Refusal:
    return Fusion().plan(make_run(calls, **fields), DIAGNOSIS, FusionOptions())  # type: ignore[arg-type]


def _calls(names: list[str], seconds: float = 5e-6) -> list[Call]:
    return [Call(name, seconds, (k - 1,) if k else ()) for k, name in enumerate(names)]


def test_registry_knows_fusion() -> None:
    assert optimizer_named("fusion") in OPTIMIZERS and "fusion" in ORDER


def test_steps_that_repeat_may_become_one_kernel() -> None:
    step = ["aten::mm", "aten::add", "aten::tanh", "aten::mul"]
    repeated, mixed = _plan(_calls(step * 9)), _plan(_calls((step * 5) + sorted(step * 4)))
    assert isinstance(repeated, Plan) and isinstance(mixed, Plan)
    assert repeated.estimate.high > 2 * mixed.estimate.high > 0
    assert "loop" in repeated.estimate.basis


def test_stretches_are_cut_by_library_ops_and_not_by_views() -> None:
    names = ["aten::mul", "aten::mm", "aten::add", "aten::t", "aten::sigmoid", "aten::mm", "aten::tanh"]
    found = stretches(make_run(_calls(names)).graph)
    assert [stretch.signature for stretch in found] == [("aten::mul",), ("aten::add", "aten::sigmoid"), ("aten::tanh",)]


def test_plan_predicts_less_than_the_step_and_says_from_what() -> None:
    plan = _plan(_calls(["aten::mm", "aten::add", "aten::sigmoid", "aten::mul"] * 10))
    assert isinstance(plan, Plan)
    assert plan.estimate.unit == "x" and 1.0 < plan.estimate.low <= plan.estimate.mid <= plan.estimate.high
    assert "measured times of the ops" in plan.estimate.basis
    taken = [target for target in plan.targets if not target.refusal]
    assert len(taken) == 1 and len(taken[0].ops) == 30 and "10 times" in taken[0].title
    left = [target for target in plan.targets if target.refusal]
    assert [target.title for target in left] == ["aten::mm, 10 times"]


def test_plan_is_the_same_for_the_same_run() -> None:
    calls = _calls(["aten::mm", "aten::add", "aten::tanh"] * 3)
    assert _plan(calls) == _plan(calls)


@pytest.mark.parametrize(
    ("calls", "fields", "words"),
    [
        (["aten::mm", "aten::mm"], {}, "no pointwise op"),
        ([], {}, "no pointwise op"),
    ],
)
def test_runs_without_a_gain_are_refused(calls: list[str], fields: dict[str, object], words: str) -> None:
    answer = _plan(_calls(calls), **fields)
    assert isinstance(answer, Refusal) and words in answer.reason


@pytest.mark.parametrize("fields", [{"max_error": -1.0}, {"max_error": float("nan")}, {"min_gain": 1.0}])
def test_impossible_options_are_refused_in_one_line(fields: dict[str, float]) -> None:
    with pytest.raises(HotbenchError, match=next(iter(fields))):
        FusionOptions(**fields)


def test_other_devices_are_refused() -> None:
    run = make_run(_calls(["aten::add", "aten::mul"]))
    run = dataclasses.replace(run, device=dataclasses.replace(run.device, kind="cuda"))
    answer = Fusion().plan(run, DIAGNOSIS, FusionOptions())
    assert isinstance(answer, Refusal) and "CPU only" in answer.reason


@pytest.fixture
def applied(tmp_path: Path) -> tuple[Path, Workload, Applied]:
    path = tmp_path / "chain.py"
    path.write_text(SOURCE)
    workload, _ = load_workload(f"{path}:workload")
    plan = _plan(_calls(["aten::mm", "aten::tanh", "aten::mul"] * 4))
    assert isinstance(plan, Plan)
    # Kept whatever the machine is busy with: these tests are about repeating, not about speed.
    plan = dataclasses.replace(plan, options={"max_error": None, "min_gain": -100.0})
    answer = Fusion().apply(workload, plan)
    assert not isinstance(answer, Refusal), answer
    return path, *answer


def test_applied_workload_gives_eagers_outputs(applied: tuple[Path, Workload, Applied]) -> None:
    path, workload, _ = applied
    eager, _ = load_workload(f"{path}:workload")
    args, _ = workload.batch(5)
    with torch.no_grad():
        assert torch.allclose(workload.model(*args), eager.model(*args), atol=1e-6)


def test_decisions_are_plain_and_repeat_exactly(applied: tuple[Path, Workload, Applied]) -> None:
    path, workload, done = applied
    assert to_plain(done.decisions) == done.decisions
    assert set(done.blobs) == {"program.py", FILE, *(f"{name}.py" for name in done.decisions["kernels"])}
    fresh, _ = load_workload(f"{path}:workload")
    rebuilt = Fusion().rebuild(fresh, done)
    args, _ = workload.batch(5)
    with torch.no_grad():
        assert torch.equal(rebuilt.model(*args), workload.model(*args))


def test_rebuilding_another_model_is_refused(applied: tuple[Path, Workload, Applied]) -> None:
    path, _, done = applied
    path.write_text(SOURCE.replace("0.1 * x", "0.2 * x"))
    fresh, _ = load_workload(f"{path}:workload")
    with pytest.raises(RecordError, match="no longer the one that was fused"):
        Fusion().rebuild(fresh, done)
    path.write_text(SOURCE)
    fresh, _ = load_workload(f"{path}:workload")
    changed = dataclasses.replace(done, decisions={**done.decisions, "program": "0" * 24})
    with pytest.raises(RecordError, match="another program than the one that was measured"):
        Fusion().rebuild(fresh, changed)


def test_own_steps_are_refused_by_apply() -> None:
    plan = _plan(_calls(["aten::mm", "aten::tanh", "aten::mul"] * 4))
    assert isinstance(plan, Plan)
    model = torch.nn.Linear(3, 3)
    own = Workload(model, (torch.randn(2, 3),), step=lambda model, batch: model(*batch[0]))
    answer = Fusion().apply(own, plan)
    assert isinstance(answer, Refusal) and "its own step" in answer.reason
