"""Tensors whose shape is not known beforehand: a block of fixed size says what there is, the receiver loads it.

The sender lays the tensor into memory that is registered, and delivers the block (dtype, shape, where it lies) into a
slot at the receiver, which then reads the bytes with a one-sided get, into memory of the size that it now knows.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import torch

from optimizers.placement.transport.errors import TransportError
from optimizers.placement.transport.memory import SharedMemory
from optimizers.placement.transport.regions import Offer, RemoteRegion
from optimizers.placement.transport.slots import Receiver, Sender
from optimizers.placement.transport.transport import Local, Transport

BLOCK_BYTES = 4096
SMALLEST_BUFFER = 1 << 16
DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.complex64, torch.complex128),
        *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
    )
}


class DynamicSender:
    """The end that sends tensors of any shape; `slots` of them may be under way."""

    def __init__(self, transport: Transport, peer: int, name: str, slots: int = 2) -> None:
        self._transport, self._blocks = transport, Sender(transport, peer, f"{name} blocks", BLOCK_BYTES, slots)
        self._buffers: list[Local | None] = [None] * slots

    def send(self, tensor: torch.Tensor) -> int:
        """Return the delivery's number; the tensor may change at once.

        Raises TransportError for a dtype or a number of axes that a block cannot say.
        """
        dtype = str(tensor.dtype).removeprefix("torch.")
        if dtype not in DTYPES:
            raise TransportError(f"tensors of {tensor.dtype} are not sent; convert it to one of {', '.join(DTYPES)}")
        self._blocks.wait_for_slot()  # the buffer's last tensor has then been read
        buffer = self._buffer(self._blocks.sequence % self._blocks.slots, tensor.nbytes)
        if tensor.nbytes:
            buffer.tensor(0, tuple(tensor.shape), tensor.dtype).copy_(tensor.detach())
        block = json.dumps({"dtype": dtype, "shape": list(tensor.shape), "offer": asdict(buffer.offer())}).encode()
        if len(block) > BLOCK_BYTES:
            raise TransportError(f"a tensor of {tensor.dim()} axes is not described in {BLOCK_BYTES} bytes; reshape it")
        return self._blocks.send(torch.frombuffer(bytearray(block), dtype=torch.uint8))

    def _buffer(self, number: int, byte_count: int) -> Local:
        """Return registered memory that holds as much; it doubles, so that few are ever made."""
        known = self._buffers[number]
        if known is not None and known.byte_count >= byte_count:
            return known
        size = SMALLEST_BUFFER
        while size < byte_count:
            size *= 2
        made = self._buffers[number] = self._transport.offer(SharedMemory.create("dynamic", size))
        if known is not None:
            self._transport.release(known)
        return made


class DynamicReceiver:
    """The end that receives tensors of any shape."""

    def __init__(self, transport: Transport, peer: int, name: str, slots: int = 2) -> None:
        self._transport, self._peer = transport, peer
        self._blocks = Receiver(transport, peer, f"{name} blocks", BLOCK_BYTES, slots)
        self._known: dict[int, tuple[Offer, RemoteRegion]] = {}

    def receive(self) -> torch.Tensor:
        """Return the next tensor, in memory of its own; raise TransportError when none comes within the time-out."""
        with self._blocks.receive() as delivery:
            block: dict[str, Any] = json.loads(bytes(delivery.tensor.numpy()))
            tensor = torch.empty(block["shape"], dtype=DTYPES[block["dtype"]])
            region = self._region((delivery.sequence - 1) % self._blocks.slots, Offer(**block["offer"]))
            check = self._transport.patience([self._peer], "let a tensor be read")
            region.get(tensor.data_ptr(), 0, tensor.nbytes, check)
        return tensor

    def _region(self, number: int, offer: Offer) -> RemoteRegion:
        known = self._known.get(number)
        if known is not None:
            if known[0] == offer:
                return known[1]
            self._transport.release(known[1])
        region = self._transport.reach(self._peer, offer)
        self._known[number] = (offer, region)
        return region
