"""The two gRPC services of a parameter server and their clients: protobuf tensors one by one, raw bytes in one stream.

Both listen on one port of rank 0. Configuration: no limit on a message's size, no compression, a thread for each
rank and two more. The flat form is what gRPC does best: no protobuf around the bytes, one stream a transfer, chunks
of 1 MiB, received straight into the buffer where they are used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch

from optimizers.placement.baselines.backend import BackendError, World, endpoint
from optimizers.placement.baselines.grpc_messages import PACKAGE, message_classes
from optimizers.placement.baselines.packing import bytes_of, copy_into
from optimizers.placement.baselines.parameter_server import ParameterServer
from optimizers.placement.step_times import Marks

OPTIONS = (("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1))
CHUNK_BYTES = 1 << 20
SPARE_THREADS = 2
SERVICE = f"{PACKAGE}.ParameterServer"


class Service:
    """What rank 0 answers: Push and Pull of single tensors, PushFlat and PullFlat of streams."""

    def __init__(self, server: ParameterServer, published: Sequence[torch.Tensor], marks: Marks) -> None:
        self._server, self._published, self._marks = server, published, marks
        self._tensor, self._request = message_classes()

    def push(self, tensor: Any, context: Any) -> Any:
        """Take one gradient."""
        begun = self._marks.clock()
        with _told(context):
            copy_into(self._server.buffer(tensor.rank, tensor.index, tensor.step), tensor.content)
            self._server.arrived(tensor.rank)
        self._marks.message(begun, self._marks.clock())
        return self._request()

    def pull(self, request: Any, context: Any) -> Any:
        """Give one parameter, once the step is done."""
        with _told(context):
            self._server.await_step(request.step)
        begun = self._marks.clock()
        found = tensor_message(0, request.step, request.index, self._published[request.index])
        self._marks.message(begun, self._marks.clock())
        return found

    def push_flat(self, chunks: Iterator[bytes], context: Any) -> bytes:
        """Take a flat buffer: a Request first, then its bytes."""
        request = self._request.FromString(next(chunks))
        begun = self._marks.clock()
        with _told(context):
            receive(self._server.buffer(request.rank, request.index, request.step), chunks)
            self._server.arrived(request.rank)
        self._marks.message(begun, self._marks.clock())
        return b""

    def pull_flat(self, request: Any, context: Any) -> Iterator[bytes]:
        """Give a flat buffer in chunks, once the step is done."""
        with _told(context):
            self._server.await_step(request.step)
        begun = self._marks.clock()
        yield from chunks_of(self._published[request.index])
        self._marks.message(begun, self._marks.clock())


class _told:  # noqa: N801 (reads as a statement)
    """Sends the one line of an error to the caller, in place of a traceback."""

    def __init__(self, context: Any) -> None:
        self._context = context

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, BackendError | ValueError | IndexError):
            import grpc

            self._context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))


def serve(service: Service, world: World) -> tuple[Any, str]:
    """Return a started server and its address. Raises BackendError where no port can be bound."""
    import grpc

    tensor, request = message_classes()
    handlers = {
        "Push": grpc.unary_unary_rpc_method_handler(service.push, tensor.FromString, request.SerializeToString),
        "Pull": grpc.unary_unary_rpc_method_handler(service.pull, request.FromString, tensor.SerializeToString),
        "PushFlat": grpc.stream_unary_rpc_method_handler(service.push_flat),
        "PullFlat": grpc.unary_stream_rpc_method_handler(service.pull_flat, request.FromString),
    }
    server = grpc.server(ThreadPoolExecutor(world.size + SPARE_THREADS), options=OPTIONS)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    try:
        port = server.add_insecure_port(endpoint(world.host, 0))
    except RuntimeError as error:
        raise BackendError(f"gRPC cannot listen on {world.host}; give the address of an interface") from error
    server.start()
    return server, endpoint(world.host, port)


class Client:
    """The calls of one other rank; every one of them ends within the world's time-out."""

    def __init__(self, address: str, world: World) -> None:
        import grpc

        self._world = world
        self._tensor, self._request = message_classes()
        self._channel = grpc.insecure_channel(address, options=OPTIONS)
        tensor, request = self._tensor, self._request
        self._push = self._channel.unary_unary(f"/{SERVICE}/Push", tensor.SerializeToString, request.FromString)
        self._pull = self._channel.unary_unary(f"/{SERVICE}/Pull", request.SerializeToString, tensor.FromString)
        self._push_flat = self._channel.stream_unary(f"/{SERVICE}/PushFlat")
        self._pull_flat = self._channel.unary_stream(f"/{SERVICE}/PullFlat", request.SerializeToString)

    def push(self, step: int, index: int, gradient: torch.Tensor) -> Any:
        """Begin to send one gradient; return the call's future."""
        return self._push.future(
            tensor_message(self._world.rank, step, index, gradient), timeout=self._world.timeout_seconds
        )

    def push_flat(self, step: int, index: int, gradient: torch.Tensor) -> Any:
        """Begin to stream a flat buffer; return the call's future."""
        request = self._request(rank=self._world.rank, step=step, index=index)
        return self._push_flat.future(_with_head(request, gradient), timeout=self._world.timeout_seconds)

    def pull(self, step: int, published: Sequence[torch.Tensor]) -> None:
        """Overwrite the parameters by those after the step; the first call waits for it, the others go out at once."""
        timeout = 2 * self._world.timeout_seconds  # The server's own wait ends first, and says more.
        requests = [self._request(rank=self._world.rank, step=step, index=index) for index in range(len(published))]
        copy_into(published[0], self._pull(requests[0], timeout=timeout).content)
        futures = [self._pull.future(request, timeout=timeout) for request in requests[1:]]
        for tensor, future in zip(published[1:], futures, strict=True):
            copy_into(tensor, future.result().content)

    def pull_flat(self, step: int, published: Sequence[torch.Tensor]) -> None:
        """Overwrite the flat buffers by those after the step."""
        for index, tensor in enumerate(published):
            request = self._request(rank=self._world.rank, step=step, index=index)
            receive(tensor, self._pull_flat(request, timeout=2 * self._world.timeout_seconds))

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()


def tensor_message(rank: int, step: int, index: int, tensor: torch.Tensor) -> Any:
    """Return the protobuf message of a tensor."""
    Tensor, _ = message_classes()
    dtype = str(tensor.dtype).removeprefix("torch.")
    return Tensor(rank=rank, step=step, index=index, dtype=dtype, shape=tensor.shape, content=bytes_of(tensor))


def chunks_of(tensor: torch.Tensor) -> Iterator[bytes]:
    """Yield the bytes of a flat tensor in chunks."""
    raw = _raw(tensor)
    for first in range(0, len(raw), CHUNK_BYTES):
        yield bytes(raw[first : first + CHUNK_BYTES])


def receive(tensor: torch.Tensor, chunks: Iterator[bytes]) -> None:
    """Write chunks into a flat tensor. Raises ValueError if they are too few or too many bytes."""
    raw = _raw(tensor)
    reached = 0
    for chunk in chunks:
        if reached + len(chunk) > len(raw):
            raise ValueError(f"more than {len(raw)} bytes for a tensor of that size")
        raw[reached : reached + len(chunk)] = chunk
        reached += len(chunk)
    if reached != len(raw):
        raise ValueError(f"{reached} bytes for a tensor of {len(raw)}")


def _raw(tensor: torch.Tensor) -> memoryview:
    return memoryview(tensor.detach().view(torch.uint8).numpy())  # type: ignore[arg-type]


def _with_head(request: Any, tensor: torch.Tensor) -> Iterator[bytes]:
    yield request.SerializeToString()
    yield from chunks_of(tensor)


def in_words(error: Any, doing: str) -> str:
    """Return a gRPC error as one line."""
    code: Callable[[], Any] = getattr(error, "code", lambda: None)
    details = str(getattr(error, "details", lambda: "")() or error).strip().splitlines()
    name = getattr(code(), "name", "error")
    return f"{doing}: {name.lower().replace('_', ' ')}: {details[0] if details else 'no reason given'}"
