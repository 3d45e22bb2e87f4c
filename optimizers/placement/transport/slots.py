"""Slots at the receiver, registered in advance: a sender writes a tensor there, and the receiver reads it there.

Deliveries are numbered. The sender writes the bytes and their number, makes sure that they have arrived (flush), then
sets the word `delivered`; the receiver gives a slot back by the word `released` at the sender. Nothing is 0 or 1: a
late word of an earlier delivery can never be taken for this one's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np
import torch

from kernels.transfer.gather import ArenaPlan
from kernels.transfer.words import LINE_BYTES, read_word
from optimizers.placement.transport.errors import TransportError
from optimizers.placement.transport.memory import SharedMemory, tensor_at
from optimizers.placement.transport.regions import DirectRegion, Offer, RemoteRegion
from optimizers.placement.transport.transport import Local, Transport

SLOTS = 2


def _stride(slot_bytes: int) -> int:
    return -(-slot_bytes // LINE_BYTES) * LINE_BYTES


def _checked(transport: Transport, peer: int, slot_bytes: int, slots: int) -> None:
    if peer == transport.rank or not 0 <= peer < transport.world_size:
        raise TransportError(f"rank {peer} is no peer of rank {transport.rank} among {transport.world_size} workers")
    if slot_bytes < 1 or slots < 1:
        raise TransportError(f"{slots} slots of {slot_bytes} bytes cannot hold anything; give at least 1 of 1 byte")


class Sender:
    """The writing end; made by `sender`. send() blocks only while the receiver holds every slot."""

    def __init__(self, transport: Transport, peer: int, name: str, slot_bytes: int, slots: int = SLOTS) -> None:
        _checked(transport, peer, slot_bytes, slots)
        self.peer, self.slot_bytes, self.slots = peer, slot_bytes, slots
        self.sequence = 0
        self._transport, self._name = transport, name
        self._credit = transport.offer(SharedMemory.create("credit", LINE_BYTES))
        tag = transport.unique(f"slots {name} {transport.rank}>{peer}")
        described = np.array([slot_bytes, slots], np.int64).tobytes()
        transport.peers.send(peer, tag, described + self._credit.offer().encode())
        self._region = transport.reach(peer, Offer.decode(transport.peers.receive(peer, tag)))
        self._count: Any = np.zeros(1, np.int64)
        self._staging: Local | None = None

    def send(self, tensor: torch.Tensor) -> int:
        """Return the delivery's number; the tensor may change at once.

        A tensor that is not contiguous host memory is gathered, straight into the slot where that is mapped.
        Raises TransportError for a tensor that does not fit, and where the peer gives no slot back.
        """
        count = tensor.nbytes
        place = self._place(count)
        if tensor.device.type == "cpu" and tensor.is_contiguous():
            self._region.put(tensor.data_ptr(), place, count)
        else:
            self._fill(place, count, lambda slot: _gather(tensor.detach(), slot))
        return self._deliver(count)

    def send_all(self, tensors: Sequence[torch.Tensor]) -> int:
        """Return the delivery's number of many contiguous host tensors, laid one behind the other by one gather.

        Each begins at a multiple of 16 bytes (kernels.transfer.gather.ArenaPlan).
        """
        plan = ArenaPlan.of([tensor.data_ptr() for tensor in tensors], [tensor.nbytes for tensor in tensors])
        if not all(tensor.is_contiguous() and tensor.device.type == "cpu" for tensor in tensors):
            raise TransportError("tensors sent together are contiguous and in host memory; send others by themselves")
        place = self._place(plan.arena_bytes)
        self._fill(place, plan.arena_bytes, lambda slot: plan.gather_on_host(slot.data_ptr()))
        return self._deliver(plan.arena_bytes)

    def slot(self) -> torch.Tensor:
        """Return the bytes of the peer's next slot, to produce into; commit() delivers them. Direct links only."""
        if not isinstance(self._region, DirectRegion):
            raise TransportError(f"{self._transport.peers.name(self.peer)} shares no memory with this worker; use send")
        place = self._place(self.slot_bytes)
        return tensor_at(self._region.mapped_address + place, self.slot_bytes, self._region.memory)

    def commit(self, byte_count: int) -> int:
        """Return the number of the delivery of the first `byte_count` bytes of slot()."""
        if not 0 <= byte_count <= self.slot_bytes:
            raise TransportError(f"{byte_count} bytes are not within a slot of {self.slot_bytes}")
        return self._deliver(byte_count)

    def wait_for_slot(self) -> None:
        """Return nothing once the receiver has given the next slot back."""
        what = f"give a slot of {self._name!r} back"
        self._transport.wait_word(self._credit.address, self.sequence + 1 - self.slots, [self.peer], what)

    def _place(self, byte_count: int) -> int:
        """Return the offset of the next slot, once the receiver has given it back."""
        if byte_count > self.slot_bytes:
            most = f"slots of {self._name!r} hold {self.slot_bytes}"
            raise TransportError(f"{byte_count} bytes do not fit: {most}; make them larger, or send a dynamic tensor")
        self.wait_for_slot()
        return _place_of(self.sequence + 1, self.slots, self.slot_bytes)

    def _fill(self, place: int, byte_count: int, fill: Callable[[torch.Tensor], Any]) -> None:
        if isinstance(self._region, DirectRegion):
            fill(tensor_at(self._region.mapped_address + place, byte_count, self._region.memory))
            return
        if self._staging is None:
            self._staging = self._transport.offer(SharedMemory.create("staging", self.slot_bytes))
        fill(tensor_at(self._staging.address, byte_count, self._staging.memory))
        self._region.put(self._staging.address, place, byte_count)

    def _deliver(self, byte_count: int) -> int:
        self.sequence += 1
        check = self._transport.patience([self.peer], f"take a delivery of {self._name!r}")
        self._count[0] = byte_count
        self._region.put(int(self._count.ctypes.data), LINE_BYTES * (1 + (self.sequence - 1) % self.slots), 8)
        self._region.flush(check)
        self._region.set_word(0, self.sequence, check)
        return self.sequence


class Delivery:
    """What arrived: `tensor` is the slot's bytes, valid until release().

    sequence: its number, from 1 on.
    """

    def __init__(self, receiver: Receiver, sequence: int, tensor: torch.Tensor) -> None:
        self.sequence, self.tensor, self._receiver = sequence, tensor, receiver

    def release(self) -> None:
        """Return nothing; give the slot back to the sender."""
        self._receiver._release(self.sequence)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.release()


class Receiver:
    """The reading end; made by `receiver`."""

    def __init__(self, transport: Transport, peer: int, name: str, slot_bytes: int, slots: int = SLOTS) -> None:
        _checked(transport, peer, slot_bytes, slots)
        self.peer, self.slot_bytes, self.slots = peer, slot_bytes, slots
        self.sequence = 0
        self._released, self._early = 0, set[int]()
        self._transport, self._name = transport, name
        size = _place_of(slots, slots, slot_bytes) + _stride(slot_bytes)
        self._local = transport.offer(SharedMemory.create("slots", size))
        tag = transport.unique(f"slots {name} {peer}>{transport.rank}")
        transport.peers.send(peer, tag, self._local.offer().encode())
        answer = transport.peers.receive(peer, tag)
        other_bytes, other_slots = np.frombuffer(answer[:16], np.int64).tolist()
        if (other_bytes, other_slots) != (slot_bytes, slots):
            other = f"{other_slots} slots of {other_bytes} bytes at {transport.peers.name(peer)}"
            raise TransportError(f"{name!r} has {slots} slots of {slot_bytes} bytes here and {other}; make them equal")
        self._region: RemoteRegion = transport.reach(peer, Offer.decode(answer[16:]))

    def arrived(self) -> bool:
        """Return whether receive() would return at once."""
        return read_word(self._local.address) > self.sequence

    def receive(self) -> Delivery:
        """Return the next delivery; raise TransportError, naming the peer, when none comes within the time-out."""
        what = f"deliver to {self._name!r}"
        self._transport.wait_word(self._local.address, self.sequence + 1, [self.peer], what)
        self.sequence += 1
        count_place = LINE_BYTES * (1 + (self.sequence - 1) % self.slots)
        count = read_word(self._local.address + count_place)
        place = _place_of(self.sequence, self.slots, self.slot_bytes)
        return Delivery(self, self.sequence, tensor_at(self._local.address + place, count, self._local.memory))

    def _release(self, sequence: int) -> None:
        if sequence <= self._released or sequence in self._early:
            raise TransportError(f"delivery {sequence} of {self._name!r} was released before; release each once")
        self._early.add(sequence)
        while self._released + 1 in self._early:
            self._released += 1
            self._early.remove(self._released)
        check = self._transport.patience([self.peer], f"hear that slots of {self._name!r} are free")
        self._region.set_word(0, self._released, check)


def _gather(tensor: torch.Tensor, slot: torch.Tensor) -> None:
    """Lay a tensor into a slot, in the order of its axes, by the fastest strided copy that there is: ATen's."""
    slot.view(tensor.dtype).view(tensor.shape).copy_(tensor)


def _place_of(sequence: int, slots: int, slot_bytes: int) -> int:
    return LINE_BYTES * (1 + slots) + (sequence - 1) % slots * _stride(slot_bytes)


def sender(transport: Transport, peer: int, name: str, slot_bytes: int, slots: int = SLOTS) -> Sender:
    """Return the end that writes to `peer`, which makes the receiver of the same name, size and number of slots."""
    return Sender(transport, peer, name, slot_bytes, slots)


def receiver(transport: Transport, peer: int, name: str, slot_bytes: int, slots: int = SLOTS) -> Receiver:
    """Return the end that `peer` writes to, which makes the sender of the same name, size and number of slots."""
    return Receiver(transport, peer, name, slot_bytes, slots)
