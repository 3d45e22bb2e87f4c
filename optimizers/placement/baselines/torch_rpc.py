"""`torch-rpc`: a parameter server through torch.distributed.rpc (TensorPipe), all tensors of a step in one call.

The call is answered when every rank's gradients are in (`async_execution`), so that no thread of the server waits.
"""

from __future__ import annotations

import ipaddress
import threading
from collections.abc import Iterator
from typing import Any

import torch
from torch.distributed import rpc
from torch.distributed.rendezvous import register_rendezvous_handler

from analyzer.workload import Workload
from optimizers.placement.baselines.backend import BackendError, World, optimizer_of, trainable
from optimizers.placement.step_times import Marks
from optimizers.placement.torch_stores import PrefixStore

SCHEME = "hotbench-placement"
SERVER = "rank0"


class _Step:
    """Rank 0's side of one step: the other ranks' gradients, and the answers that wait for the new parameters."""

    def __init__(self) -> None:
        self.gradients: dict[int, list[torch.Tensor]] = {}
        self.answers: list[torch.futures.Future[list[torch.Tensor]]] = []
        self.changed = threading.Condition()


_served: dict[str, Any] = {}
"""This process's _Step and World: a remote call can only reach what a module holds."""


@rpc.functions.async_execution  # type: ignore[untyped-decorator]
def _exchange(rank: int, gradients: list[torch.Tensor]) -> torch.futures.Future[list[torch.Tensor]]:
    """Take a rank's gradients on rank 0; the answer holds the parameters after the step."""
    step: _Step = _served["step"]
    answer: torch.futures.Future[list[torch.Tensor]] = torch.futures.Future()
    with step.changed:
        step.gradients[rank] = gradients
        step.answers.append(answer)
        step.changed.notify_all()
    return answer


def _meet(url: str, **_: Any) -> Iterator[tuple[Any, int, int]]:
    """Yield store, rank and size: the ranks have met already, so no port of torch's own choice is opened."""
    yield _served["meeting"]


register_rendezvous_handler(SCHEME, _meet)  # type: ignore[no-untyped-call]


def _parameters() -> list[torch.Tensor]:
    """Return rank 0's parameters as they are."""
    published: list[torch.Tensor] = _served["published"]
    return published


def join(world: World) -> None:
    """Join the ranks' RPC agents, called rank0, rank1 and so on. Raises BackendError when a peer does not come."""
    _served["meeting"] = (PrefixStore("rpc", world.store), world.rank, world.size)
    # On one host tensorpipe takes shared memory. Ranks that meet elsewhere than on loopback stand for several hosts.
    # Where these are namespaces of one machine it would still read a peer's memory, so only TCP is left to it.
    between_hosts = not ipaddress.ip_address(world.host).is_loopback
    options = rpc.TensorPipeRpcBackendOptions(
        init_method=f"{SCHEME}://",
        rpc_timeout=world.timeout_seconds,
        _transports=["uv"] if between_hosts else None,
        _channels=["basic"] if between_hosts else None,
    )
    try:
        rpc.init_rpc(  # type: ignore[no-untyped-call]
            f"rank{world.rank}", rank=world.rank, world_size=world.size, rpc_backend_options=options
        )
    except RuntimeError as error:
        raise BackendError(f"rank {world.rank} could not join torch.distributed.rpc: {error}") from error


class TorchRpc:
    """Rank 0 averages and steps; every other rank sends its gradients and gets the parameters in one call."""

    name = "torch-rpc"

    def __init__(self) -> None:
        self.transport = "tensorpipe"
        self._started = False

    def start(self, world: World, workload: Workload, marks: Marks) -> torch.nn.Module:
        """Join the ranks' RPC agents and take rank 0's parameters."""
        self._optimizer, self._marks, self._world = optimizer_of(workload), marks, world
        self._trained = [parameter for _, parameter in trainable(workload)]
        _served.update(step=_Step(), published=[parameter.data for parameter in self._trained])
        join(world)
        self._started = True
        if world.rank:
            self._take(rpc.rpc_sync(SERVER, _parameters, timeout=world.timeout_seconds))
        return workload.model

    def gradient_ready(self, index: int) -> None:
        """Nothing to do: all gradients go in one call."""

    def update(self) -> None:
        """Rank 0: collect, average, step, answer. Others: one call."""
        gradients = [parameter.grad for parameter in self._trained if parameter.grad is not None]
        if len(gradients) != len(self._trained):
            raise BackendError("a parameter got no gradient in this step; freeze it or leave it out of the model")
        if self._world.rank == 0:
            self._serve(gradients)
            return
        noted = self._marks.sending()
        try:
            future = rpc.rpc_async(
                SERVER, _exchange, args=(self._world.rank, gradients), timeout=2 * self._world.timeout_seconds
            )
            self._take(future.wait())
        except RuntimeError as error:
            raise BackendError(f"rank 0 did not answer: {str(error).strip().splitlines()[0]}") from error
        noted(None)
        self._marks.all_exchanged()

    def stop(self) -> None:
        """Leave without waiting for the others: the processes end together."""
        if self._started:
            self._started = False
            rpc.shutdown(graceful=False)
        _served.clear()

    def _serve(self, own: list[torch.Tensor]) -> None:
        step: _Step = _served["step"]
        with step.changed:
            others = self._world.size - 1
            if not step.changed.wait_for(lambda: len(step.answers) == others, self._world.timeout_seconds):
                late = sorted(set(range(1, self._world.size)) - set(step.gradients))
                raise BackendError(
                    f"no gradients of rank {', '.join(map(str, late))} for {self._world.timeout_seconds:g} s; "
                    "see whether it runs"
                )
            received, answers = step.gradients, step.answers
            step.gradients, step.answers = {}, []
        for position, gradient in enumerate(own):
            for rank in sorted(received):
                gradient.add_(received[rank][position])
            gradient.div_(self._world.size)
        self._marks.all_exchanged()
        self._optimizer.step()
        for answer in answers:
            answer.set_result(_served["published"])

    def _take(self, parameters: list[torch.Tensor]) -> None:
        with torch.no_grad():
            for own, new in zip(self._trained, parameters, strict=True):
                own.copy_(new)
