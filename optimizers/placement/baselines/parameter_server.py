"""The parameter server of rank 0, whatever carries its messages: gradients in, parameters out, one step at a time.

As in TensorFlow's distributed training of old: the server has the parameters and the optimizer, workers push their
gradients and pull the parameters of the next step. It lives in rank 0's process, whose own gradients cross no wire.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

import torch

from optimizers.placement.baselines.backend import BackendError
from optimizers.placement.baselines.packing import Packing


class ParameterServer:
    """Collects one step's gradients of all other ranks, averages, steps, and publishes.

    `push` and `await_step` are called from the threads of a server, `apply` from the thread that trains.
    """

    def __init__(
        self,
        parameters: Sequence[torch.nn.Parameter],
        packing: Packing,
        optimizer: torch.optim.Optimizer,
        world_size: int,
        timeout_seconds: float,
    ) -> None:
        self._parameters, self._packing, self._optimizer = parameters, packing, optimizer
        self._world_size, self._timeout_seconds = world_size, timeout_seconds
        received = {rank: packing.receive_buffers() for rank in range(1, world_size)}
        self._buffers = {rank: buffers for rank, (buffers, _) in received.items()}
        self._views = {rank: views for rank, (_, views) in received.items()}
        self._outstanding = {rank: len(packing.published) for rank in received}
        self._step = 0
        self._failed = ""
        self._changed = threading.Condition()

    def buffer(self, rank: int, message: int, step: int) -> torch.Tensor:
        """Return where a rank's message goes. Raises BackendError for one that is not expected now."""
        if rank not in self._buffers or not 0 <= message < len(self._packing.published):
            raise BackendError(f"message {message} of rank {rank} is none of this training's; end the other one")
        if step != self._step + 1:
            raise BackendError(f"rank {rank} sent step {step}, the server waits for {self._step + 1}; start all afresh")
        return self._buffers[rank][message]

    def arrived(self, rank: int) -> None:
        """Note that a message of the rank is in its buffer."""
        with self._changed:
            self._outstanding[rank] -= 1
            if self._outstanding[rank] == 0:
                self._changed.notify_all()

    def apply(self, averaged: Callable[[], None]) -> None:
        """Wait for the other ranks' gradients, average, say so, step, publish. Raises BackendError for a late rank."""
        with self._changed:
            self._wait(lambda: not any(self._outstanding.values()), self._late)
        self._average()
        averaged()
        self._optimizer.step()
        with self._changed:
            self._outstanding = dict.fromkeys(self._buffers, len(self._packing.published))
            self._step += 1
            self._changed.notify_all()

    def await_step(self, step: int) -> None:
        """Wait until the parameters after that step are published. Raises BackendError when they don't come."""
        with self._changed:
            self._wait(
                lambda: self._step >= step,
                lambda: f"rank 0 has not finished step {step} in {self._timeout_seconds:g} s; see what keeps it",
            )

    def fail(self, reason: str) -> None:
        """Wake all who wait, with this reason."""
        with self._changed:
            self._failed = self._failed or reason
            self._changed.notify_all()

    def _average(self) -> None:
        """Put the mean of all ranks' gradients into rank 0's, summed in the order of ranks."""
        for position, parameter in enumerate(self._parameters):
            gradient = parameter.grad
            if gradient is None:
                raise BackendError("a parameter got no gradient in this step; freeze it or leave it out of the model")
            for views in self._views.values():
                gradient.add_(views[position])
            gradient.div_(self._world_size)

    def _late(self) -> str:
        late = ", ".join(str(rank) for rank, count in self._outstanding.items() if count)
        return f"no gradients of rank {late} for {self._timeout_seconds:g} s; see whether it runs"

    def _wait(self, ready: Callable[[], bool], late: Callable[[], str]) -> None:
        stop = time.monotonic() + self._timeout_seconds
        while not ready():
            if self._failed:
                raise BackendError(self._failed)
            if not self._changed.wait(max(stop - time.monotonic(), 0.0)) and not ready():
                raise BackendError(late())
