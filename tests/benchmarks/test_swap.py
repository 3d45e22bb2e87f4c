"""The swap benchmark lists what it measures, and its peers compute what the plain step does."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from analyzer.errors import HotbenchError
from analyzer.workload import Stepper, Workload, seed_everything
from benchmarks import swap
from benchmarks.command import main
from benchmarks.swap_models import CASES, CLASSES, Transformer
from benchmarks.swap_peers import PEERS, with_checkpoints, with_saving_on_cpu


def small() -> Workload:
    seed_everything(0)
    model = Transformer(layers=1)
    return Workload(
        model=model,
        inputs=lambda seed: ((torch.ones(1, 5, 256) * (seed + 1),), {}),
        loss=lambda output, batch: output.square().sum(),
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
    )


def losses(change: Callable[[Workload], Workload]) -> list[float]:
    stepper = Stepper(change(small()))
    seed_everything(3)
    return [float(stepper.step()) for _ in range(2)]


def test_the_listing_names_each_row_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(swap.BENCHMARK, ["--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(set(lines)) == len(swap.PROMISES)
    assert {promise.peer for promise in swap.PROMISES} == set(PEERS)
    assert {promise.case.rsplit("-", 1)[0] for promise in swap.PROMISES} == set(CASES)


@pytest.mark.parametrize("change", [with_checkpoints, with_saving_on_cpu])
def test_a_peer_computes_what_the_plain_step_does(change: Callable[[Workload], Workload]) -> None:
    assert losses(change) == losses(PEERS["none"])


def test_a_model_without_blocks_is_refused_by_checkpointing() -> None:
    model = torch.nn.Linear(2, CLASSES)
    with pytest.raises(HotbenchError, match="no blocks"):
        with_checkpoints(Workload(model=model, inputs=(torch.ones(1, 2),)))
