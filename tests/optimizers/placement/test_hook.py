"""DistributedDataParallel with the hook, in processes: as gloo trains, and what backward says when a worker dies."""

from __future__ import annotations

import copy
import resource
import signal
from typing import Any

import pytest
import torch
import torch.distributed
from torch.nn.parallel import DistributedDataParallel

import hotbench
from optimizers.placement.transport import TransportError
from tests.optimizers.placement.transport import worlds

STEPS = 4


def _model() -> torch.nn.Module:
    torch.manual_seed(3)
    layers = [layer for width in (301, 400, 400) for layer in (torch.nn.Linear(width, 400), torch.nn.Tanh())]
    return torch.nn.Sequential(*layers, torch.nn.Linear(400, 7))


def _trained(model: torch.nn.Module, rank: int) -> list[torch.Tensor]:
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    generator = torch.Generator().manual_seed(rank)
    for step in range(STEPS):
        optimizer.zero_grad(set_to_none=step % 2 == 0)
        model(torch.randn(5, 301, generator=generator)).square().mean().backward()
        optimizer.step()
    return [parameter.detach().clone() for parameter in model.parameters()]


def _group(store: Any, rank: int, world_size: int) -> None:
    torch.distributed.init_process_group("gloo", store=store, rank=rank, world_size=world_size)


def train_both(store: Any, rank: int, world_size: int, pipe: Any, **options: Any) -> None:
    """Train with gloo and with the hook; say whether the parameters are equal, and how buckets went."""
    _group(store, rank, world_size)
    first = _trained(DistributedDataParallel(_model(), gradient_as_bucket_view=True, bucket_cap_mb=1), rank)
    answers = {}
    for form in ("all-reduce", "parameter-server"):
        with hotbench.HookState.open(form=form, job=form, secret=worlds.SECRET, **options) as state:
            model = DistributedDataParallel(_model(), gradient_as_bucket_view=True, bucket_cap_mb=1)
            model.register_comm_hook(state, hotbench.ddp_hook)
            second = _trained(model, rank)
            times = list(state.exchanges)
        apart = max(float((a - b).abs().max()) for a, b in zip(first, second, strict=True))
        ordered = all(t.ready_seconds <= t.begun_seconds <= t.finished_seconds for t in times)
        last = [t.index for t in times if t.step == STEPS - 1]
        answers[form] = (apart, state.transport, ordered, times[-1].step, last == sorted(last) and len(last) > 1)
    pipe.send(answers)
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("transport", ["posix", "tcp"])
def test_two_workers_train_bit_for_bit_as_with_gloo(transport):
    options = {} if transport == "posix" else worlds.tcp()
    with worlds.processes(2, train_both, **options) as job:
        for rank in range(2):
            answers = job.said(rank)
            for form in ("all-reduce", "parameter-server"):
                assert answers[form] == (0.0, transport, True, STEPS - 1, True)


def train_until_stopped(store: Any, rank: int, world_size: int, pipe: Any) -> None:
    """Train without an end; say when it is under way, and what backward raised."""
    _group(store, rank, world_size)
    state = hotbench.HookState.open(secret=worlds.SECRET, timeout_seconds=worlds.SECONDS)
    model = DistributedDataParallel(copy.deepcopy(_model()), gradient_as_bucket_view=True)
    model.register_comm_hook(state, hotbench.ddp_hook)
    try:
        for step in range(1_000_000):
            model(torch.randn(5, 301)).square().mean().backward()
            if step == 3:
                pipe.send("under way")
    except RuntimeError as error:
        pipe.send((str(error), state.failure))
    state.close()
    pipe.send("closed")


def test_backward_stops_and_names_the_worker_that_was_killed():
    before = worlds.segments()
    with worlds.processes(2, train_until_stopped) as job:
        assert job.said(0) == job.said(1) == "under way"
        job.signal(1, signal.SIGKILL)
        raised, failure = job.said(0)
        assert f"rank 1 (pid {job.workers[1].pid} on " in failure and "\n" not in failure
        assert failure in raised
        assert job.said(0) == "closed"
    assert worlds.segments() == before


def train_without_room(store: Any, rank: int, world_size: int, pipe: Any) -> None:
    """Train where rank 1 may make no file, shared memory included, as large as a bucket; say what backward raised."""
    _group(store, rank, world_size)
    with hotbench.HookState.open(secret=worlds.SECRET, timeout_seconds=worlds.SECONDS) as state:
        model = DistributedDataParallel(_model(), gradient_as_bucket_view=True)
        model.register_comm_hook(state, hotbench.ddp_hook)
        if rank == 1:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))
        try:
            model(torch.randn(5, 301)).square().mean().backward()
        except RuntimeError as error:
            pipe.send((str(error), state.failure))
    torch.distributed.destroy_process_group()


def test_when_a_workers_memory_cannot_be_shared_every_worker_says_whose_and_why():
    before = worlds.segments()
    with worlds.processes(2, train_without_room) as job:
        for rank in range(2):
            raised, failure = job.said(rank)
            assert f"rank 1 (pid {job.workers[1].pid} on " in failure and "\n" not in failure and failure in raised
            assert "bytes of shared memory are not to be had" in failure
            job.workers[rank].join(worlds.SECONDS)
            assert job.workers[rank].exitcode == 0
    assert worlds.segments() == before


def train_job(store: Any, rank: int, world_size: int, pipe: Any, value: float) -> None:
    """Average a gradient that is the same on both ranks; say what came of it, many times over."""
    with hotbench.HookState.open(
        store, rank, world_size, secret=worlds.SECRET, timeout_seconds=worlds.SECONDS
    ) as state:
        pipe.send("open")
        pipe.recv()
        bucket = torch.empty(1 << 16)
        wrong = 0
        for step in range(60):
            bucket.fill_(value + step + rank)
            mean = state.submit(0, True, bucket).wait()
            wrong += int((mean != value + step + 0.5).sum())
        pipe.send(wrong)


def test_two_jobs_on_one_host_at_the_same_time_never_see_each_others_gradients():
    before = worlds.segments()
    with worlds.processes(2, train_job, value=0.0) as first, worlds.processes(2, train_job, value=1e6) as second:
        for word in ("open", 0):
            for job in (first, second):
                for rank in range(2):
                    assert job.said(rank) == word
                    if word == "open":
                        job.pipes[rank].send("go")
    assert worlds.segments() == before


def test_without_a_process_group_the_state_says_what_is_missing():
    with pytest.raises(TransportError, match="there is no process group; call torch.distributed.init_process_group"):
        hotbench.HookState.open(secret=worlds.SECRET)


def test_a_bucket_that_is_not_in_host_memory_is_refused_in_words():
    def body(transport: Any) -> str:
        state = hotbench.HookState(transport)
        with pytest.raises(RuntimeError, match="bucket 0 is on meta; the hook averages buckets in host memory"):
            state.submit(0, True, torch.zeros(3, device="meta")).wait()
        state._queue.put(None)
        return state.failure

    assert "bucket 0 is on meta" in str(worlds.outcomes(1, body)[0])
