"""Workers that die, stall, never start or are none of the job's: the others stop, and say whom they waited for."""

from __future__ import annotations

import json
import signal
import socket
import threading
from typing import Any

import pytest
import torch
import torch.distributed

from optimizers.placement.transport import Transport, TransportError, open_transport
from optimizers.placement.transport.slots import Receiver, Sender
from tests.optimizers.placement.transport import worlds


@pytest.fixture(params=["posix", "tcp"])
def options(request):
    return {} if request.param == "posix" else worlds.tcp()


def stream(store: Any, rank: int, world_size: int, pipe: Any, seconds: float, **options: Any) -> None:
    """Rank 1 sends to rank 0 without an end; each says when it is under way, and why it stopped."""
    arguments = {"secret": worlds.SECRET, "timeout_seconds": worlds.SECONDS, **options}
    with open_transport(store, rank, world_size, **arguments) as transport:
        transport.timeout_seconds = seconds
        try:
            if rank == 1:
                sender, tensor = Sender(transport, 0, "stream", 1 << 20), torch.ones(1 << 18)
                while True:
                    number = sender.send(tensor)
                    if number == 5:
                        pipe.send("under way")
            elif rank == 0:
                receiver = Receiver(transport, 1, "stream", 1 << 20)
                while True:
                    with receiver.receive() as delivery:
                        assert delivery.tensor.view(torch.float32).min() == 1
            else:
                transport.barrier()
        except TransportError as error:
            pipe.send(str(error))


def test_when_a_worker_is_killed_in_mid_transfer_the_others_name_it_and_nothing_is_left(options):
    before = worlds.segments()
    with worlds.processes(3, stream, seconds=worlds.SECONDS, **options) as job:
        assert job.said(1) == "under way"
        job.signal(1, signal.SIGKILL)
        pid = job.workers[1].pid
        for rank in (0, 2):
            said = job.said(rank)
            assert f"rank 1 (pid {pid} on " in said and "\n" not in said
            job.workers[rank].join(worlds.SECONDS)
            assert job.workers[rank].exitcode == 0
    assert worlds.segments() == before


def test_when_a_worker_stalls_its_peer_stops_after_the_time_out_and_names_it(options):
    with worlds.processes(2, stream, seconds=4.0, **options) as job:
        assert job.said(1) == "under way"
        job.signal(1, signal.SIGSTOP)
        said = job.said(0)
        assert f"rank 1 (pid {job.workers[1].pid} on " in said
        assert "within 4 s; the worker or its link stalls" in said
        job.workers[0].join(worlds.SECONDS)
        assert job.workers[0].exitcode == 0


def test_a_peer_that_never_starts_is_named():
    with pytest.raises(TransportError, match=r"ranks 1, 2 of job 'hotbench' did not start within 0.3 s"):
        open_transport(torch.distributed.HashStore(), 0, 3, secret=worlds.SECRET, timeout_seconds=0.3)


def test_a_lower_rank_that_never_starts_is_named():
    with pytest.raises(TransportError, match=r"rank 0 of job 'hotbench' did not start within 0.3 s; start all 2"):
        open_transport(torch.distributed.HashStore(), 1, 2, secret=worlds.SECRET, timeout_seconds=0.3)


def test_a_worker_with_another_secret_is_turned_away_and_both_sides_say_so():
    secrets = [worlds.SECRET, b"another secret, as long"]
    first, second = worlds.outcomes(2, lambda transport: None, secret=secrets, timeout_seconds=3.0)
    assert "rank 1 of job 'hotbench' did not start within 3 s" in str(first)
    assert "who calls itself rank 1" in str(first) and "does not prove the secret" in str(first)
    assert "rank 0" in str(second) and "secret" in str(second)
    assert isinstance(second, TransportError) and "\n" not in str(second)


def test_workers_that_disagree_about_the_number_of_workers_do_not_meet():
    store, results = torch.distributed.HashStore(), {}

    def work(rank: int, world_size: int) -> None:
        try:
            open_transport(store, rank, world_size, secret=worlds.SECRET, timeout_seconds=2.0)
        except TransportError as error:
            results[rank] = str(error)

    threads = [threading.Thread(target=work, args=pair) for pair in ((0, 2), (1, 3))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert "world size" in results[1] and "did not start" in results[0]


def test_who_talks_without_a_proof_is_not_listened_to_and_the_job_still_starts():
    store, ranks = torch.distributed.HashStore(), []

    def work(rank: int) -> None:
        with open_transport(store, rank, 2, secret=worlds.SECRET, timeout_seconds=worlds.SECONDS) as transport:
            transport.barrier()
            ranks.append(rank)

    first = threading.Thread(target=work, args=(0,))
    first.start()
    store.wait(["hotbench/hotbench/1/0"])
    place = json.loads(store.get("hotbench/hotbench/1/0"))
    for noise in (b"", b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 5000):
        with socket.create_connection(tuple(place)) as link:
            link.sendall(noise)
    work(1)
    first.join()
    assert sorted(ranks) == [0, 1]


def test_a_worker_that_fails_tells_the_others_why():
    def body(transport: Transport) -> None:
        if transport.rank == 1:
            raise ValueError("out of luck")
        transport.barrier()

    errors = worlds.outcomes(3, body)
    for rank in (0, 2):
        assert "rank 1 (pid" in str(errors[rank]) and "out of luck" in str(errors[rank])


def test_a_worker_that_leaves_early_is_missed_by_who_still_needs_it():
    def body(transport: Transport) -> None:
        if transport.rank == 1:
            sender = Sender(transport, 0, "one", 4)
            transport.barrier()
            sender.send(torch.ones(1))
            transport.close()
            return
        receiver = Receiver(transport, 1, "one", 4)
        transport.barrier()
        assert receiver.receive().tensor.view(torch.float32) == 1  # what was delivered is there
        with pytest.raises(TransportError, match="rank 1 .* has closed its transport while it is still needed"):
            receiver.receive()
        transport.close()

    store = torch.distributed.HashStore()
    threads = []
    failed: list[BaseException] = []

    def work(rank: int) -> None:
        try:
            body(open_transport(store, rank, 2, secret=worlds.SECRET, timeout_seconds=worlds.SECONDS))
        except BaseException as error:
            failed.append(error)

    for rank in range(2):
        threads.append(threading.Thread(target=work, args=(rank,)))
        threads[-1].start()
    for thread in threads:
        thread.join()
    assert not failed, failed


def test_without_libucp_a_job_over_a_network_refuses_in_words(monkeypatch):
    monkeypatch.setenv("HOTBENCH_UCX", "/nowhere/libucp.so.0")
    for error in worlds.outcomes(2, lambda transport: None, transports="tcp"):
        assert isinstance(error, TransportError)
        assert "/nowhere/libucp.so.0" in str(error) and "\n" not in str(error)


def test_a_message_that_was_changed_on_its_way_ends_the_job():
    def body(transport: Transport) -> None:
        if transport.rank == 1:
            channel = transport.peers._channels[0]
            channel._sent += 1  # a proof of another message
            transport.peers.send(0, "a message", b"changed")
        transport.peers.receive(1 - transport.rank, "a message")

    errors = worlds.outcomes(2, body)
    assert "rank 1" in str(errors[0]) and "does not prove the job's secret" in str(errors[0])
