"""The GPU check's fused models, with kernels' CPU twins in the place of the device: every rival computes the same."""

from __future__ import annotations

import pytest
import torch

from benchmarks.fusion_recurrent import LibraryLSTM, UnrolledLSTM
from benchmarks.gpu import fusion
from benchmarks.gpu.contest import OURS, build_rivals
from benchmarks.gpu.findings import Bar
from benchmarks.gpu.rivals import keeping
from optimizers.fusion import cuda_build, cuda_runner
from tests.optimizers.fusion.host_device import Again, twin_kernels

SMALL = fusion.Model(
    "small",
    lambda: UnrolledLSTM(2, 3, 4),
    (4, 1, 3),
    LibraryLSTM,  # type: ignore[arg-type]
    ((fusion.CUDNN, Bar("ratio", at_least=2.0)),),
)


def test_every_rival_of_a_fused_model_computes_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_build, "cuda_kernels", twin_kernels)
    monkeypatch.setattr(cuda_runner, "GraphRecorder", Again)
    monkeypatch.setattr(fusion, "prepare", lambda kernels: None)
    monkeypatch.setattr(fusion, "inductor", keeping)
    with torch.no_grad():
        case = fusion.contest(SMALL, "cpu")
        ready, absent, _ = build_rivals(case)
    assert absent == {} and set(ready) == {OURS, *case.rivals}
    assert set(case.bars) == {fusion.CUDNN}


def test_the_models_are_those_that_the_bars_name() -> None:
    names = {task.id for task in fusion.tasks("")}
    assert names == {"rammer-lstm", "lstm-t100-b1-h256", "encoder", "heads"}
    (lstm,) = (model for model in fusion.MODELS if model.name == "rammer-lstm")
    assert {peer: bar.at_least for peer, bar in lstm.bars} == {fusion.EAGER: 34.0, fusion.CUDNN: 2.0}
    assert fusion.Masked()(torch.randn(1, 128, 384)).shape == (1, 128, 384)
