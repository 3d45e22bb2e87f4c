"""The gRPC parameter servers, their ranks as threads of this process: what is sent, and what goes wrong, in words."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch.distributed import HashStore

from analyzer.errors import HotbenchError
from analyzer.workload import Workload, seed_everything
from optimizers.placement.backends import make_backend, unavailable
from optimizers.placement.baselines.backend import World
from optimizers.placement.rank import Rank
from tests.optimizers.placement import step_workloads

pytestmark = pytest.mark.skipif(bool(unavailable("grpc")), reason=unavailable("grpc") or "gRPC is there")
FORMS = ("grpc", "grpc-flat")


def build(function: str = "odd") -> Workload:
    seed_everything(0)
    return getattr(step_workloads, function)()


def together(backend: str, workloads: list[Workload], work, timeout_seconds: float = 30.0) -> list[object]:
    """Return what `work(rank)` gives for each rank, or the error that it ended with."""
    store = HashStore()

    def run(number: int) -> object:
        try:
            world = World(number, len(workloads), store, timeout_seconds=timeout_seconds)
            with Rank(workloads[number], make_backend(backend), world) as rank:
                return work(rank)
        except HotbenchError as error:
            return error

    with ThreadPoolExecutor(len(workloads)) as pool:
        return list(pool.map(run, range(len(workloads))))


def train(rank: Rank) -> list[float]:
    losses = []
    for seed in range(3):
        rank.draw(seed)
        losses.append(float(rank.step()[0]))
    # Whoever serves goes last: a peer that still pulls would be cut off.
    rank.world.store.set(f"done{rank.world.rank}", "")
    rank.world.store.wait([f"done{number}" for number in range(rank.world.size)])
    return losses


def mean_of_batches(size: int) -> tuple[list[list[float]], Workload]:
    workload, losses = build(), [[] for _ in range(size)]
    for seed in range(3):
        workload.optimizer.zero_grad()
        for rank in range(size):
            batch = workload.batch(seed * size + rank)
            loss = workload.loss(workload.model(*batch[0]), batch)
            (loss / size).backward()
            losses[rank].append(float(loss.detach()))
        workload.optimizer.step()
    return losses, workload


@pytest.mark.parametrize("backend", FORMS)
@pytest.mark.parametrize("size", [2, 3])
def test_ranks_train_as_one_process_on_all_batches_would(backend: str, size: int) -> None:
    workloads = [build() for _ in range(size)]
    with torch.no_grad():
        for parameter in workloads[1].model.parameters():
            parameter += 1.0 if parameter.requires_grad else 0.0  # The first parameters are rank 0's.
    found = together(backend, workloads, train)
    losses, alone = mean_of_batches(size)
    torch.testing.assert_close(torch.tensor(found), torch.tensor(losses), rtol=1e-6, atol=0)
    for name, value in alone.model.state_dict().items():
        torch.testing.assert_close(workloads[0].model.state_dict()[name], value, rtol=1e-5, atol=1e-7)
        for other in workloads[1:]:
            assert torch.equal(other.model.state_dict()[name], workloads[0].model.state_dict()[name])


@pytest.mark.parametrize("backend", FORMS)
def test_messages_are_noted_on_the_rank_that_sends(backend: str) -> None:
    def noted(rank: Rank) -> list[tuple[float, float]]:
        train(rank)
        return rank.marks.messages

    spans = together(backend, [build(), build()], noted)[1]
    trained = sum(parameter.requires_grad for parameter in build().model.parameters())
    assert len(spans) == (2 if backend == "grpc-flat" else trained)  # The flat form has one message a dtype.
    assert all(first < last for first, last in spans)


@pytest.mark.parametrize("backend", FORMS)
def test_a_silent_rank_is_named(backend: str) -> None:
    found = together(backend, [build(), build()], lambda rank: rank.step() if rank.world.rank == 0 else None, 1.0)
    assert "no gradients of rank 1 for 1 s" in str(found[0])


def test_a_server_that_never_starts_is_named() -> None:
    with pytest.raises(HotbenchError, match=r"rank 1 heard nothing of rank 0's parameter server for 0.2 s"):
        Rank(build(), make_backend("grpc"), World(1, 2, HashStore(), timeout_seconds=0.2))


@pytest.mark.parametrize("backend", FORMS)
def test_another_model_on_another_rank_is_refused(backend: str) -> None:
    other = build()
    other.model.first = torch.nn.Linear(13, 31, bias=False)
    found = together(backend, [build(), other], train, 2.0)
    assert isinstance(found[1], HotbenchError) and "\n" not in str(found[1])


def test_a_parameter_without_a_gradient_is_refused() -> None:
    found = together("grpc", [build("unused"), build("unused")], train, 2.0)
    assert "a parameter got no gradient" in str(found[1])
