"""What each way of exchanging gradients costs in software, on top of the link, until `calibrate` has measured it."""

from __future__ import annotations

from dataclasses import dataclass

from optimizers.placement.errors import PlacementError

_ASSUMED = "assumed, not measured here: rounded from trials of two processes on one host with 2 cores of an AMD EPYC"


@dataclass(frozen=True, slots=True)
class BackendCost:
    """One way of exchanging gradients, and what its software takes.

    form:  "all-reduce", or "parameter-server": one worker averages and the others push to it and pull from it.
    unit:  what a message holds: a "bucket", a single "tensor", or all gradients of a "step".
    overlaps: whether messages leave while backward still runs.
    message_seconds, bytes_per_second: what the software adds to a link's latency, and the most that it moves.
    processor_share: share of a core that either end spends while bytes move.
    one_sided: where a link's hardware moves the bytes, neither end's software limits it.
    """

    name: str
    title: str
    form: str
    unit: str
    overlaps: bool
    message_seconds: float
    bytes_per_second: float
    processor_share: float
    source: str
    one_sided: bool = False


BACKEND_COSTS: tuple[BackendCost, ...] = (
    BackendCost("hotbench", "Hotbench", "all-reduce", "bucket", True, 1.2e-5, 8.0e9, 1.0, _ASSUMED, True),
    BackendCost("gloo", "Gloo", "all-reduce", "bucket", True, 1.6e-4, 3.2e9, 1.0, _ASSUMED),
    BackendCost("grpc-flat", "gRPC, one buffer", "parameter-server", "step", False, 4.0e-4, 1.8e8, 0.5, _ASSUMED),
    BackendCost("grpc", "gRPC, each tensor", "parameter-server", "tensor", True, 4.0e-4, 1.8e8, 0.5, _ASSUMED),
)
"""In the order in which a page shows them; the figures stand until `calibrate` has measured them here."""

BASELINE = "gloo"
HARDWARE_MESSAGE_SECONDS = 2e-6
"""Of a one-sided write that hardware carries out, as published for verbs; the link's own latency not included."""


def cost_named(name: str) -> BackendCost:
    """Return the costs of the backend called `name`. Raises PlacementError, naming those that are known."""
    found = {item.name: item for item in BACKEND_COSTS}
    if name not in found:
        raise PlacementError(f"no backend {name!r} can be predicted; choose one of {', '.join(found)}")
    return found[name]
