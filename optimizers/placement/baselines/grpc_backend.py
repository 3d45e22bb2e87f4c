"""`grpc`: a parameter server, one protobuf tensor at a time, as TensorFlow did. `grpc-flat`: one buffer, streamed."""

from __future__ import annotations

from typing import Any

import torch

from analyzer.workload import Workload
from optimizers.placement.baselines.backend import BackendError, World, optimizer_of, trainable
from optimizers.placement.baselines.grpc_service import Client, Service, in_words, serve
from optimizers.placement.baselines.packing import Flat, OneByOne, Packing
from optimizers.placement.baselines.parameter_server import ParameterServer
from optimizers.placement.step_times import Marks

KEY = "placement/grpc"


class GrpcParameterServer:
    """Rank 0 serves; the others push each gradient as soon as backward has written it, and pull parameters after it.

    flat: one message for all gradients in place of one each, so that what coalescing brings is seen apart.
    """

    def __init__(self, *, flat: bool) -> None:
        self.name = "grpc-flat" if flat else "grpc"
        self.transport = "http/2 over tcp"
        self._flat = flat
        self._step = 0
        self._grpc_server: Any = None
        self._server: ParameterServer | None = None
        self._client: Client | None = None
        self._futures: list[Any] = []

    def start(self, world: World, workload: Workload, marks: Marks) -> torch.nn.Module:
        """Start the server or connect to it; the first parameters are rank 0's."""
        optimizer = optimizer_of(workload)
        self._marks, self._world = marks, world
        parameters = [parameter for _, parameter in trainable(workload)]
        self._packing: Packing = Flat(parameters) if self._flat else OneByOne(parameters)
        if world.rank == 0:
            self._server = ParameterServer(parameters, self._packing, optimizer, world.size, world.timeout_seconds)
            self._grpc_server, address = serve(Service(self._server, self._packing.published, marks), world)
            world.tell(KEY, address)
        else:
            self._client = Client(world.ask(KEY, "rank 0's parameter server"), world)
            self._pull()
        return workload.model

    def gradient_ready(self, index: int) -> None:
        """Send the message that this gradient completes, while backward goes on."""
        if self._client is None:
            return
        message = self._packing.ready(index)
        if message is None:
            return
        push = self._client.push_flat if self._flat else self._client.push
        noted = self._marks.sending()
        future = push(self._step + 1, message, self._packing.gradient(message))
        future.add_done_callback(noted)
        self._futures.append(future)

    def update(self) -> None:
        """Rank 0: collect, average, step. Others: wait for what was sent, then take the new parameters."""
        self._step += 1
        if self._server is not None:
            self._server.apply(self._marks.all_exchanged)
            return
        if len(self._futures) != len(self._packing.published):
            raise BackendError("a parameter got no gradient in this step; freeze it or leave it out of the model")
        self._finish_pushes()
        self._pull()
        self._marks.all_exchanged()

    def stop(self) -> None:
        """Close the channel or the server."""
        if self._client is not None:
            self._client.close()
        if self._server is not None:
            self._server.fail("the training has ended")
        if self._grpc_server is not None:
            self._grpc_server.stop(None).wait()
        self._client = self._server = self._grpc_server = None

    def _finish_pushes(self) -> None:
        import grpc

        try:
            for future in self._futures:
                future.result()
        except grpc.RpcError as error:
            raise BackendError(in_words(error, "rank 0's server did not take a gradient")) from error
        finally:
            self._futures = []

    def _pull(self) -> None:
        import grpc

        assert self._client is not None
        pull = self._client.pull_flat if self._flat else self._client.pull
        try:
            pull(self._step, self._packing.published)
        except grpc.RpcError as error:
            raise BackendError(in_words(error, "rank 0's server gave no parameters")) from error
        except ValueError as error:
            raise BackendError(f"rank 0 sent {error}; all ranks must build the same model") from error
