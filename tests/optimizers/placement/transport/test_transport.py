"""Workers that meet, and what they write to each other: what arrives, where, in what order."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
import torch.distributed
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.transfer.words import read_word
from optimizers.placement.transport import Transport, TransportError, lanes, open_transport
from optimizers.placement.transport.dynamic import DynamicReceiver, DynamicSender
from optimizers.placement.transport.memory import SharedMemory
from optimizers.placement.transport.slots import Receiver, Sender
from tests.optimizers.placement.transport import worlds


@pytest.fixture(params=["posix", "tcp"])
def options(request):
    return {} if request.param == "posix" else worlds.tcp()


def test_every_worker_knows_how_it_reaches_the_others(options):
    found = worlds.run(3, lambda transport: transport.links, **options)
    wanted = "tcp" if options else "posix"
    for rank, links in enumerate(found):
        assert [link.rank for link in links] == [other for other in range(3) if other != rank]
        assert {(link.transport, link.direct, link.is_rdma) for link in links} == {(wanted, not options, False)}


def test_only_verbs_are_called_rdma():
    assert [name for name in ("rc_mlx5", "rc_verbs", "dc_x", "ud_verbs") if not lanes.is_verbs(name)] == []
    assert not any(map(lanes.is_verbs, ("posix", "cma", "tcp", "self", "sysv", "cuda_ipc", "unknown", "rdmacm")))


def test_the_lane_that_carries_puts_is_the_one_named():
    text = """#  lane[0]:  0:tcp/eth0.0 md[0]   -> md[0]/tcp/sysdev[255] seg 8191 am am_bw#0 wireup
#  lane[1]:  5:rc_mlx5/mlx5_0:1.0 md[2]  -> md[2]/ib/sysdev[0] rma_bw#0"""
    assert lanes.transport_of(text) == "rc_mlx5"
    assert lanes.transport_of(text.splitlines()[0]) == "tcp"
    assert lanes.transport_of("no lanes here") == "unknown"


def _mixed_traffic(sizes: list[int], slots: int):
    """Return a body in which each worker sends random bytes to the next one, and hears from the one before."""

    def body(transport: Transport) -> int:
        previous = (transport.rank - 1) % transport.world_size
        following = (transport.rank + 1) % transport.world_size
        most = max(sizes) + 8
        threads = []
        failed: list[BaseException] = []

        def send() -> None:
            try:
                sender = Sender(transport, following, "mixed", most, slots)
                for number, size in enumerate(sizes):
                    assert sender.send(_content(transport.rank, number, size)) == number + 1
            except BaseException as error:
                failed.append(error)

        threads.append(threading.Thread(target=send))
        threads[0].start()
        receiver = Receiver(transport, previous, "mixed", most, slots)
        for number, size in enumerate(sizes):
            with receiver.receive() as delivery:
                assert delivery.sequence == number + 1
                assert torch.equal(delivery.tensor, _content(previous, number, size))
        threads[0].join()
        if failed:
            raise failed[0]
        return len(sizes)

    return body


def _content(rank: int, number: int, size: int) -> torch.Tensor:
    generator = np.random.default_rng((rank, number))
    return torch.from_numpy(generator.integers(0, 256, size, dtype=np.uint8))


def test_nothing_is_torn_or_lost_in_transfers_of_mixed_size(options):
    sizes = np.random.default_rng().choice([0, 1, 7, 4096, 65_537, 300_001], 60).tolist()
    assert worlds.run(4, _mixed_traffic(sizes, slots=3), **options) == [60] * 4


def test_the_sender_waits_until_a_slot_is_given_back():
    def body(transport: Transport) -> list[int] | None:
        if transport.rank == 0:
            sender = Sender(transport, 1, "credit", 8, 2)
            for number in range(5):
                sender.send(torch.tensor([number]))
            return None
        receiver = Receiver(transport, 0, "credit", 8, 2)
        held = [receiver.receive(), receiver.receive()]
        worlds.wait_for(lambda: read_word(receiver._local.address) == 2)
        assert not receiver.arrived()  # three more are waiting to be sent
        seen = [int(one.tensor.view(torch.int64)) for one in held]
        held[1].release()
        assert not receiver.arrived()  # the next delivery wants the first slot
        held[0].release()
        for _ in range(3):
            with receiver.receive() as delivery:
                seen.append(int(delivery.tensor.view(torch.int64)))
        with pytest.raises(TransportError, match="released before"):
            delivery.release()
        return seen

    assert worlds.run(2, body)[1] == [0, 1, 2, 3, 4]


@settings(deadline=None, max_examples=6)
@given(st.lists(st.integers(0, 9), min_size=0, max_size=4), st.sampled_from(["float64", "bfloat16", "bool", "int16"]))
def test_dynamic_tensors_arrive_with_their_shape_and_type(shape, kind):
    dtype = getattr(torch, kind)
    first = torch.randint(0, 2, shape).to(dtype)
    second = torch.randn(7, 40_001)  # larger than the first buffer: another one is made and found

    def body(transport: Transport) -> list[torch.Tensor] | None:
        if transport.rank == 1:
            sender = DynamicSender(transport, 0, "shapes", 2)
            for tensor in (first, second.T, first, first):
                sender.send(tensor)
            return None
        receiver = DynamicReceiver(transport, 1, "shapes", 2)
        return [receiver.receive() for _ in range(4)]

    for got, wanted in zip(worlds.run(2, body)[0], (first, second.T, first, first), strict=True):
        assert got.dtype == wanted.dtype and torch.equal(got, wanted)


def test_dynamic_tensors_are_loaded_over_a_network_too():
    tensors = [torch.randn(3, 50_000), torch.zeros(0, 3), torch.randn(()), torch.randn(90_000)[::3]]

    def body(transport: Transport) -> list[torch.Tensor] | None:
        if transport.rank == 0:
            sender = DynamicSender(transport, 1, "shapes")
            for tensor in tensors:
                sender.send(tensor)
            return None
        receiver = DynamicReceiver(transport, 0, "shapes")
        return [receiver.receive() for _ in tensors]

    for got, wanted in zip(worlds.run(2, body, **worlds.tcp())[1], tensors, strict=True):
        assert torch.equal(got, wanted)


def test_what_is_not_contiguous_or_many_is_gathered_into_the_slot(options):
    whole = torch.randn(33, 17)
    many = [torch.randn(5), torch.arange(3, dtype=torch.uint8), torch.randn(2, 2)]

    def body(transport: Transport) -> None:
        if transport.rank == 0:
            sender = Sender(transport, 1, "gather", 4096, 1)
            sender.send(whole[::2].T)
            sender.send_all(many)
            return
        receiver = Receiver(transport, 0, "gather", 4096, 1)
        with receiver.receive() as delivery:
            assert torch.equal(delivery.tensor.view(torch.float32).view(17, 17), whole[::2].T)
        with receiver.receive() as delivery:
            assert torch.equal(delivery.tensor[:20].view(torch.float32), many[0])
            assert torch.equal(delivery.tensor[32:35], many[1])
            assert torch.equal(delivery.tensor[48:64].view(torch.float32), many[2].flatten())

    worlds.run(2, body, **options)


def test_an_op_writes_its_result_straight_into_the_peers_slot():
    def body(transport: Transport) -> None:
        if transport.rank == 0:
            sender = Sender(transport, 1, "produced", 64, 2)
            torch.add(torch.arange(8.0), 1, out=sender.slot()[:32].view(torch.float32))
            sender.commit(32)
            with pytest.raises(TransportError, match="65 bytes are not within a slot of 64"):
                sender.commit(65)
            return
        with Receiver(transport, 0, "produced", 64, 2).receive() as delivery:
            assert delivery.tensor.view(torch.float32).tolist() == list(range(1, 9))

    worlds.run(2, body)


def test_two_jobs_with_one_store_do_not_mix():
    store = torch.distributed.HashStore()
    answers = {}

    def job(name: str, value: float) -> None:
        def body(transport: Transport) -> float:
            if transport.rank == 0:
                Sender(transport, 1, "same name", 4).send(torch.tensor([value]))
                return value
            with Receiver(transport, 0, "same name", 4).receive() as delivery:
                return float(delivery.tensor.view(torch.float32))

        answers[name] = worlds.run(2, body, store=store, job=name)

    threads = [threading.Thread(target=job, args=(f"job {number}", float(number))) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == {f"job {number}": [number, number] for number in range(3)}


def test_what_does_not_fit_is_refused_with_both_sizes():
    def body(transport: Transport) -> None:
        if transport.rank == 0:
            with pytest.raises(TransportError, match="12 bytes do not fit: slots of 'small' hold 8"):
                Sender(transport, 1, "small", 8).send(torch.zeros(3))
            return
        Receiver(transport, 0, "small", 8)

    worlds.run(2, body)


def test_ends_that_disagree_about_their_slots_say_so():
    def body(transport: Transport) -> None:
        if transport.rank == 0:
            Sender(transport, 1, "odd", 8, 2)
        else:
            Receiver(transport, 0, "odd", 9, 2)

    errors = worlds.outcomes(2, body)
    assert "2 slots of 9 bytes here and 2 slots of 8 bytes at rank 0" in str(errors[1])


def test_memory_that_the_host_does_not_have_is_refused_in_words():
    with pytest.raises(TransportError, match=r"1152921504606846976 bytes of shared memory are not to be had"):
        SharedMemory.create("vast", 1 << 60)


def test_a_storage_moved_to_shared_memory_keeps_its_values_and_its_views():
    whole = torch.randn(1001)
    view, before = whole[3:10], whole.clone()
    memory = SharedMemory.adopt(whole)
    assert whole.data_ptr() == memory.address and view.data_ptr() == memory.address + 12
    assert torch.equal(whole, before)
    view.zero_()
    assert whole[3:10].count_nonzero() == 0


@pytest.mark.parametrize(
    ("rank", "world_size", "wrong", "message"),
    [
        (2, 2, {}, "rank 2 of 2 workers does not exist"),
        (0, 2, {"secret": b""}, "HOTBENCH_SECRET is not set"),
        (0, 2, {"secret": "short"}, "the secret has 5 bytes; give 16"),
        (0, 2, {"interface": "nowhere0"}, "'nowhere0' has no IPv4 address here; name one that has: lo"),
    ],
)
def test_what_cannot_be_opened_is_said_in_one_line(rank, world_size, wrong, message, monkeypatch):
    monkeypatch.delenv("HOTBENCH_SECRET", raising=False)
    with pytest.raises(TransportError, match=message) as caught:
        open_transport(torch.distributed.HashStore(), rank, world_size, **{"secret": worlds.SECRET, **wrong})
    assert "\n" not in str(caught.value)


def test_a_job_can_be_started_again_with_the_same_name_and_store():
    store = torch.distributed.HashStore()
    for _ in range(3):
        assert worlds.run(2, lambda transport: transport.rank, store=store) == [0, 1]
