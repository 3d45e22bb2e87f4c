"""A fused model on several workers: fused forward and backward in every rank, gradients averaged by our hook."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from analyzer.measurement import Estimate
from analyzer.threads import torch_threads
from analyzer.workload import load_workload
from optimizers.candidate import make_candidate, save_candidate
from optimizers.fusion import backend_sizes, backend_training, backend_trial
from optimizers.fusion.optimizer import NAME as FUSION
from optimizers.fusion.timing import Comparison
from optimizers.placement.backends import unavailable
from optimizers.placement.launch import PlacementLaunch, Ranks, baseline_entry, candidate_entry
from optimizers.placement.observe import dynamic_shapes
from optimizers.plan import Applied, Plan

SOURCE = """
import torch
from analyzer.workload import Workload, seeded

class Chain(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = torch.nn.Linear(7, 11), torch.nn.Linear(11, 3)

    def forward(self, x):
        hidden = self.first(x)
        return self.second(torch.tanh(hidden) * torch.sigmoid(hidden) + hidden.exp().log1p())

def training():
    model = Chain()
    return Workload(model=model, inputs=lambda seed: ((torch.randn(5, 7, generator=seeded(seed)),), {}),
                    loss=lambda output, batch: output.square().mean(),
                    optimizer=torch.optim.SGD(model.parameters(), lr=0.1))
"""
STEPS = 3


def faster(first: Callable[[], object], second: Callable[[], object], *_: object, **__: object) -> Comparison:
    first(), second()
    return Comparison(0.002, 0.001, 2.0, 1.9, 2.1, 9)


@pytest.mark.skipif(bool(unavailable("hotbench")), reason=unavailable("hotbench") or "libucp is there")
def test_workers_train_a_fused_model_as_they_train_the_model_itself(tmp_path: Path, monkeypatch) -> None:
    for module in (backend_training, backend_trial):  # This is not about speed: what can be fused is.
        monkeypatch.setattr(module, "compare", faster)
    monkeypatch.setattr(backend_sizes, "measured", backend_sizes.unmeasured)
    path = tmp_path / "chain.py"
    path.write_text(SOURCE)
    workload, reference = load_workload(f"{path}:training")
    with torch_threads(1):
        decisions, blobs = backend_training.fuse_training(workload)
        assert dynamic_shapes(workload) == ()  # with other inputs, in inference: as it was written
    plan = Plan("plan-1", "run-1", FUSION, {}, (), Estimate(1.0, 1.0, 1.0, "x", "none"), "", reference=reference)
    candidate = make_candidate("run-1", reference, (Applied(plan, decisions, blobs),))
    save_candidate(candidate, tmp_path / "candidate")
    states = []
    for backend, entry in (("gloo", baseline_entry(reference)), ("hotbench", candidate_entry(tmp_path / "candidate"))):
        files = [str(tmp_path / f"{backend}-{rank}.safetensors") for rank in range(2)]
        with Ranks(PlacementLaunch(*entry, backend)) as ranks:
            assert len(ranks.steps(STEPS, seeds=range(STEPS)).steps) == STEPS
            ranks.save(files)
        first, second = map(load_file, files)
        for name, tensor in first.items():
            assert torch.equal(tensor, second[name]), name
        states.append(first)
    plain, fused = states
    for name, tensor in plain.items():
        torch.testing.assert_close(fused[name], tensor, rtol=1e-5, atol=1e-6, msg=name)
