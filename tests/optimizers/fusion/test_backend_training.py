"""The fusion optimizer on workloads that train: applied, repeated exactly, refused in words."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from analyzer.diagnosis.finding import Diagnosis
from analyzer.errors import RecordError
from analyzer.record import to_plain
from analyzer.workload import Stepper, Workload, load_workload
from optimizers.fusion import api, backend_sizes, backend_training, backend_trial
from optimizers.fusion.optimizer import Fusion, FusionOptions
from optimizers.fusion.timing import Comparison
from optimizers.plan import Applied, Plan, Refusal
from tests.optimizers.fusion.interpreted import interpreted
from tests.synthetic import Call, make_run

SOURCE = """
import torch
from analyzer.workload import Workload, seeded

class Chain(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(6, 6) / 3)
        self.norm = torch.nn.BatchNorm1d(6)

    def forward(self, x):
        h = x
        for _ in range(3):
            h = torch.tanh(h @ self.weight) * torch.sigmoid(h) + 0.1 * x
        return torch.nn.functional.dropout(self.norm(h), 0.2)

def workload():
    model = Chain()
    return Workload(
        model=model,
        inputs=lambda seed: ((torch.randn(5, 6, generator=seeded(seed)),), {}),
        loss=lambda output, batch: (output * output).mean(),
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9),
    )
"""


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A workload; kernels are interpreted, and timed as if they were faster: these tests are not about speed."""
    monkeypatch.setattr(api, "compile_kernels", interpreted)
    monkeypatch.setattr(backend_sizes, "measured", backend_sizes.unmeasured)
    monkeypatch.setattr(backend_training, "compare", _faster)
    monkeypatch.setattr(backend_trial, "compare", _faster)
    torch._dynamo.reset()
    file = tmp_path / "chain.py"
    file.write_text(SOURCE)
    yield f"{file}:workload"
    torch._dynamo.reset()


def _faster(first: Any, second: Any, budget_seconds: float, clear: float | None = None) -> Comparison:
    first(), second()
    return Comparison(0.002, 0.001, 2.0, 1.9, 2.1, 9)


def _plan() -> Plan:
    calls = [Call(name, 5e-6, (k - 1,) if k else ()) for k, name in enumerate(["aten::mm", "aten::tanh", "aten::mul"])]
    plan = Fusion().plan(make_run(calls, training=True), Diagnosis("diagnosis-0", "run-0", ()), FusionOptions())
    assert isinstance(plan, Plan)
    return plan


def _apply(path: str) -> tuple[Workload, Applied]:
    workload, _ = load_workload(path)
    before = copy.deepcopy(workload.model.state_dict())
    state = torch.get_rng_state()
    answer = Fusion().apply(workload, _plan())
    assert not isinstance(answer, Refusal), answer
    torch.testing.assert_close(workload.model.state_dict(), before, rtol=0, atol=0)
    assert torch.equal(torch.get_rng_state(), state) and all(p.grad is None for p in workload.model.parameters())
    return answer


def _train(workload: Workload, steps: int = 3) -> list[Any]:
    torch.manual_seed(4)
    stepper = Stepper(workload)
    losses = []
    for seed in range(steps):
        stepper.redraw(seed)
        losses.append(stepper.step())
    return [torch.stack(losses), *workload.model.state_dict().values()]


def test_applied_workload_trains_as_eager(path: str) -> None:
    workload, applied = _apply(path)
    eager, _ = load_workload(path)
    assert list(workload.model.state_dict()) == list(eager.model.state_dict())
    torch.testing.assert_close(_train(workload), _train(eager), rtol=1e-4, atol=1e-5)
    kinds = sorted(program["kind"] for program in applied.decisions["programs"])
    assert kinds == ["backward", "forward"] and all(p["kernel_calls"] for p in applied.decisions["programs"])


def test_decisions_are_plain_and_repeat_exactly(path: str) -> None:
    workload, applied = _apply(path)
    assert to_plain(applied.decisions) == applied.decisions and len(applied.blobs) >= 4
    fresh, _ = load_workload(path)
    rebuilt = Fusion().rebuild(fresh, applied)
    torch.testing.assert_close(_train(rebuilt), _train(workload), rtol=0, atol=0)


def test_rebuilding_another_model_is_refused(path: str) -> None:
    _, applied = _apply(path)
    file = Path(path.rpartition(":")[0])
    file.write_text(SOURCE.replace("0.1 * x", "0.2 * x"))
    fresh, _ = load_workload(path)
    with pytest.raises(RecordError, match="no longer the one that was fused"):
        Fusion().rebuild(fresh, applied)
    assert fresh.model._compiled_call_impl is None
    file.write_text(SOURCE)
    fresh, _ = load_workload(path)
    for program in applied.decisions["programs"]:
        program["program"] = "0" * 24
    with pytest.raises(RecordError, match="other programs than those that were measured"):
        Fusion().rebuild(fresh, applied)


def test_slower_training_is_refused_and_the_model_left_as_it_was(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend_training, "compare", lambda *_, **__: Comparison(0.001, 0.0011, 0.91, 0.9, 1.0, 9))
    workload, _ = load_workload(path)
    answer = Fusion().apply(workload, _plan())
    assert isinstance(answer, Refusal)
    assert answer.reason == (
        "not faster than eager here: compiled 1.1 ms, eager 1 ms (0.91x, 95 % interval 0.90 to 1.00)"
    )
    assert workload.model._compiled_call_impl is None


def test_a_model_that_runs_eagerly_is_refused_with_the_reason(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    trial = backend_sizes.Trial("results differ from eager's", "by 1.0e+00 (allowed 1.0e-04)")
    monkeypatch.setattr(backend_sizes, "try_out", lambda *_: trial)
    workload, _ = load_workload(path)
    answer = Fusion().apply(workload, _plan())
    assert isinstance(answer, Refusal) and "results differ from eager's: by 1.0e+00" in answer.reason


def test_gradients_beyond_the_accepted_error_are_refused(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend_training, "_largest_error", lambda *_: 2e-6)
    workload, _ = load_workload(path)
    answer = backend_training.fuse_training(workload, max_error=1e-6)
    assert isinstance(answer, Refusal) and "by 2.0e-06 of the largest (allowed 1e-06)" in answer.reason
