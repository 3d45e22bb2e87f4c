"""Every backend trains as one process on all batches would; what fails is named, and nothing is left behind."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.distributed import HashStore

from analyzer.errors import HotbenchError
from analyzer.workload import load_workload
from optimizers.placement.backends import make_backend, unavailable
from optimizers.placement.baselines.backend import World
from optimizers.placement.launch import PlacementLaunch, Ranks, placement_launch
from optimizers.placement.rank import Rank

WORKLOADS = Path(__file__).parent / "step_workloads.py"
STEPS = 3


def launch(function: str, backend: str, **choices: object) -> PlacementLaunch:
    _, reference = load_workload(f"{WORKLOADS}:{function}")
    return placement_launch(reference, backend, **choices)


def trained_alone(ranks: int) -> tuple[list[list[float]], dict[str, torch.Tensor]]:
    """Return each rank's losses and the final state of one process that averages over the ranks' batches itself."""
    workload, _ = load_workload(f"{WORKLOADS}:odd")
    losses: list[list[float]] = [[] for _ in range(ranks)]
    for seed in range(STEPS):
        workload.optimizer.zero_grad()
        for rank in range(ranks):
            batch = workload.batch(seed * ranks + rank)
            loss = workload.loss(workload.model(*batch[0]), batch)
            (loss / ranks).backward()
            losses[rank].append(float(loss.detach()))
        workload.optimizer.step()
    return losses, workload.model.state_dict()


def gone(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.parametrize("backend", ["hotbench", "gloo", "torch-rpc"])
def test_a_backend_trains_as_one_process_on_all_batches_would(backend: str, tmp_path: Path) -> None:
    if unavailable(backend):
        pytest.skip(unavailable(backend))
    paths = [str(tmp_path / f"{rank}.safetensors") for rank in range(2)]
    with Ranks(launch("odd", backend)) as ranks:
        found = ranks.steps(STEPS, seeds=range(STEPS))
        ranks.save(paths)
        metrics, processes = ranks.evaluate(), ranks.process_ids
    losses, state = trained_alone(2)
    torch.testing.assert_close(torch.tensor(found.losses), torch.tensor(losses), rtol=1e-6, atol=0)
    saved = [load_file(path) for path in paths]
    for name, value in state.items():
        torch.testing.assert_close(saved[0][name], value, rtol=1e-5, atol=1e-7)
        assert torch.equal(saved[0][name], saved[1][name]), f"the ranks differ in {name}"
    assert metrics == {"answer": 42.0} and all(map(gone, processes))
    assert found.transport and len(found.steps) == STEPS
    for step in (step for rank in found.ranks for step in rank):
        assert step.seconds == pytest.approx(step.compute_seconds + step.exposed_seconds)
        assert min(step.compute_seconds, step.exposed_seconds) > 0 and 0 <= step.hidden_seconds < step.compute_seconds


def test_a_rank_that_dies_is_named_and_the_others_are_ended() -> None:
    with Ranks(launch("dying", "gloo", timeout_seconds=20.0)) as ranks:
        processes = ranks.process_ids
        ranks.steps(3)
        with pytest.raises(HotbenchError, match=r"rank 1 was killed by SIGKILL; start the training again"):
            ranks.steps(3)
    assert all(map(gone, processes))


def test_a_workload_with_a_step_of_its_own_is_refused_in_words() -> None:
    workload, _ = load_workload(f"{WORKLOADS}:own_step")
    with pytest.raises(HotbenchError, match="step of its own"):
        Rank(workload, make_backend("gloo"), World(0, 2, HashStore()))


@pytest.mark.parametrize(
    ("backend", "choices", "words"),
    [
        ("mpi", {}, "no backend 'mpi'; choose one of hotbench, gloo"),
        ("gloo", {"world_size": 1}, "a world of 1 ranks; give 2 to 64"),
        ("gloo", {"world_size": 65}, "a world of 65 ranks"),
        ("gloo", {"threads": 0}, "0 threads a rank"),
        ("gloo", {"settings": {"form": "ring"}}, "backend gloo has no setting form; it has: none"),
        ("hotbench", {"settings": {"magic": 1}}, "backend hotbench has no setting magic; it has: bucket_megabytes"),
    ],
)
def test_a_launch_that_cannot_be_is_refused(backend: str, choices: dict[str, object], words: str) -> None:
    if backend == "hotbench" and unavailable(backend):
        pytest.skip(unavailable(backend))
    with pytest.raises(HotbenchError, match=words):
        launch("odd", backend, **choices)
