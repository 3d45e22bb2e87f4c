"""One tensor from rank 0 to rank 1: each way to send it, until it lies in the receiver's buffer and is acknowledged."""

from __future__ import annotations

import queue
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch.distributed import rpc

from optimizers.placement.baselines.backend import BackendError, World, endpoint
from optimizers.placement.torch_stores import PrefixStore

OURS = "hotbench"


class Peer(Protocol):
    """A way to send. Rank 0 calls `send`, rank 1 `receive`, once a transfer."""

    transport: str

    def __init__(self, world: World, most_bytes: int) -> None: ...

    def send(self, tensor: torch.Tensor) -> None:
        """Send bytes; return when the receiver has acknowledged them."""
        ...

    def receive(self, count: int) -> torch.Tensor:
        """Return so many bytes that arrived; valid until the next call."""
        ...


class Slots:
    """Ours: written straight into the receiver's slot; giving the slot back acknowledges it."""

    def __init__(self, world: World, most_bytes: int) -> None:
        from optimizers.placement.transport import open_transport
        from optimizers.placement.transport.slots import receiver, sender

        store = PrefixStore("transport", world.store)
        self._transport = open_transport(
            store, world.rank, world.size, secret=world.secret, timeout_seconds=world.timeout_seconds
        )
        self.transport = "+".join(sorted({link.transport for link in self._transport.describe_links()}))
        make: Callable[..., Any] = receiver if world.rank else sender
        self._end = make(self._transport, 1 - world.rank, "tensor", most_bytes, slots=1)
        self._held: Any = None

    def send(self, tensor: torch.Tensor) -> None:
        self._end.send(tensor)
        self._end.wait_for_slot()

    def receive(self, count: int) -> torch.Tensor:
        with self._end.receive() as delivery:
            tensor: torch.Tensor = delivery.tensor
        return tensor


class Grpc:
    """A call with one protobuf tensor, copied into the receiver's buffer; the reply acknowledges it."""

    transport = "http/2 over tcp"

    def __init__(self, world: World, most_bytes: int) -> None:
        import grpc

        from optimizers.placement.baselines.grpc_messages import message_classes
        from optimizers.placement.baselines.grpc_service import OPTIONS
        from optimizers.placement.baselines.packing import copy_into

        Tensor, Request = message_classes()
        self._buffer = torch.zeros(most_bytes if world.rank else 0, dtype=torch.uint8)
        self._arrived: queue.SimpleQueue[int] = queue.SimpleQueue()

        def push(message: Any, _: Any) -> Any:
            copy_into(self._buffer[: len(message.content)], message.content)
            self._arrived.put(len(message.content))
            return Request()

        if world.rank:
            method = grpc.unary_unary_rpc_method_handler(push, Tensor.FromString, Request.SerializeToString)
            self._server = grpc.server(ThreadPoolExecutor(1), options=OPTIONS)
            self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("tensor", {"Push": method}),))
            world.tell("push", endpoint(world.host, self._server.add_insecure_port(endpoint(world.host, 0))))
            self._server.start()
        else:
            channel = grpc.insecure_channel(world.ask("push", "rank 1's server"), options=OPTIONS)
            self._push = channel.unary_unary("/tensor/Push", Tensor.SerializeToString, Request.FromString)

    def send(self, tensor: torch.Tensor) -> None:
        from optimizers.placement.baselines.grpc_service import tensor_message

        self._push(tensor_message(0, 0, 0, tensor), wait_for_ready=True)

    def receive(self, count: int) -> torch.Tensor:
        return self._buffer[: self._arrived.get()]


class Gloo:
    """torch.distributed's send and recv; an element back acknowledges it."""

    transport = "gloo over tcp"

    def __init__(self, world: World, most_bytes: int) -> None:
        from optimizers.placement.baselines.data_parallel import join_group

        join_group(world)
        self._buffer = torch.zeros(most_bytes if world.rank else 0, dtype=torch.uint8)
        self._answer = torch.zeros(1, dtype=torch.uint8)

    def send(self, tensor: torch.Tensor) -> None:
        dist.send(tensor, 1)
        dist.recv(self._answer, 1)

    def receive(self, count: int) -> torch.Tensor:
        dist.recv(self._buffer[:count], 0)
        dist.send(self._answer, 0)
        return self._buffer[:count]


_received: dict[str, Any] = {}


def _take(tensor: torch.Tensor) -> None:
    """Copy a tensor into rank 1's buffer; runs there."""
    _received["buffer"][: tensor.numel()].copy_(tensor)
    _received["arrived"].put(tensor.numel())


class TorchRpc:
    """torch.distributed.rpc: a call with the tensor, copied into the receiver's buffer; its return acknowledges it."""

    transport = "tensorpipe"

    def __init__(self, world: World, most_bytes: int) -> None:
        from optimizers.placement.baselines.torch_rpc import join

        buffer = torch.zeros(most_bytes if world.rank else 0, dtype=torch.uint8)
        _received.update(buffer=buffer, arrived=queue.SimpleQueue())
        join(world)

    def send(self, tensor: torch.Tensor) -> None:
        rpc.rpc_sync("rank1", _take, args=(tensor,))

    def receive(self, count: int) -> torch.Tensor:
        buffer: torch.Tensor = _received["buffer"]
        return buffer[: _received["arrived"].get()]


PEERS: dict[str, type[Peer]] = {OURS: Slots, "grpc": Grpc, "gloo": Gloo, "torch-rpc": TorchRpc}


def make_peer(name: str, world: World, most_bytes: int) -> Peer:
    """Return a connected peer. Raises BackendError for one that is not here."""
    from optimizers.placement.backends import unavailable

    reason = unavailable(name)
    if reason:
        raise BackendError(reason)
    return PEERS[name](world, most_bytes)
