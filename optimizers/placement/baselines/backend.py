"""What a way to exchange gradients has to offer, so that all of them run in the same harness."""

from __future__ import annotations

import datetime
import ipaddress
import socket
from dataclasses import dataclass, field
from typing import Protocol

import torch

from analyzer.workload import Workload
from optimizers.placement.errors import PlacementError
from optimizers.placement.step_times import Marks
from optimizers.placement.torch_stores import Store


class BackendError(PlacementError):
    """An exchange that cannot be set up, or that a peer did not keep up with."""


@dataclass(frozen=True, slots=True)
class World:
    """The ranks of one training, as one of them sees it.

    store: where ranks meet; used to find each other, never for gradients.
    host:  this rank's address on the network that joins the ranks.
    secret: what all of them know and nobody else does.
    """

    rank: int
    size: int
    store: Store
    host: str = "127.0.0.1"
    timeout_seconds: float = 60.0
    secret: str = field(default="", repr=False)

    @property
    def timeout(self) -> datetime.timedelta:
        """Return the time-out of one wait."""
        return datetime.timedelta(seconds=self.timeout_seconds)

    def tell(self, key: str, value: str) -> None:
        """Make a value known to all ranks."""
        self.store.set(key, value)

    def ask(self, key: str, whom: str) -> str:
        """Return a value that another rank tells. Raises BackendError when it does not come in time."""
        try:
            self.store.wait([key], self.timeout)
            return bytes(self.store.get(key)).decode()
        except RuntimeError as error:
            raise BackendError(
                f"rank {self.rank} heard nothing of {whom} for {self.timeout_seconds:g} s; see whether it runs"
            ) from error


class Backend(Protocol):
    """Exchanges the gradients of one rank's steps. `start` comes first, `stop` last.

    name:      its fixed id.
    transport: what the bytes go through, in words; known after `start`.
    """

    name: str
    transport: str

    def start(self, world: World, workload: Workload, marks: Marks) -> torch.nn.Module:
        """Connect the ranks, make their parameters rank 0's, and return the module to call in place of the model."""
        ...

    def gradient_ready(self, index: int) -> None:
        """Hear that autograd has written the gradient of the index-th trainable parameter."""
        ...

    def update(self) -> None:
        """Finish the exchange, mark it, and bring the parameters up to date: the optimizer's step included."""
        ...

    def stop(self) -> None:
        """Let go of peers and memory; harmless when it is called twice or `start` failed."""
        ...


def trainable(workload: Workload) -> list[tuple[str, torch.nn.Parameter]]:
    """Return the parameters that get gradients, by name, in the model's order."""
    return [(name, parameter) for name, parameter in workload.model.named_parameters() if parameter.requires_grad]


def optimizer_of(workload: Workload) -> torch.optim.Optimizer:
    """Return the workload's optimizer. Raises BackendError for a workload whose steps cannot be taken apart."""
    if workload.step is not None:
        raise BackendError("the workload has a step of its own, which cannot be taken apart; give loss and optimizer")
    if workload.optimizer is None or workload.loss is None:
        raise BackendError("the workload does not train; give Workload.loss and Workload.optimizer")
    return workload.optimizer


def address_towards(host: str) -> str:
    """Return this machine's address on the way to `host`. Raises BackendError for a host that cannot be reached."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, 9, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(address)  # Sends nothing: it only picks the route.
            return str(probe.getsockname()[0])
    except OSError as error:
        raise BackendError(f"no way to host {host!r}: {error.strerror or error}; check the address") from error


def endpoint(host: str, port: int) -> str:
    """Return host and port as one text, an IPv6 address in brackets."""
    try:
        version = ipaddress.ip_address(host).version
    except ValueError:
        version = 4
    return f"[{host}]:{port}" if version == 6 else f"{host}:{port}"
