"""What a page shows of a placement, in plain values: backends beside each other, the step's course, scale curves."""

from __future__ import annotations

import json
from dataclasses import dataclass

from analyzer.errors import RecordError
from analyzer.measurement import Measurement
from analyzer.record import from_plain, to_plain
from optimizers.placement.buckets import BucketPlan
from optimizers.placement.predict import Prediction
from optimizers.placement.scale import ScaleCurve

VIEW_FILE = "placement_view.json"


@dataclass(frozen=True, slots=True)
class Split:
    """Where a step's seconds went, measured over several steps; the mean over the ranks."""

    step: Measurement
    compute: Measurement
    exposed: Measurement
    hidden: Measurement
    transport: str


@dataclass(frozen=True, slots=True)
class BackendView:
    """One backend: predicted, and measured where it ran; reason: why it did not."""

    name: str
    title: str
    predicted: Prediction | None
    measured: Split | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Span:
    """One task of the simulated step, in seconds since it began."""

    lane: str
    kind: str
    name: str
    start_seconds: float
    end_seconds: float


@dataclass(frozen=True, slots=True)
class PlacementView:
    """All that a page needs. Everything but Split is simulated.

    others: plans of other kinds for the same workers, predicted alone.    spans: the chosen plan's step.
    dynamic: tensors that cross workers and whose shape is not the same in every step, with the reason.
    sources: where the costs of the prediction are from.
    """

    world_size: int
    cluster: str
    backends: tuple[BackendView, ...]
    buckets: BucketPlan
    others: tuple[Prediction, ...]
    spans: tuple[Span, ...]
    curves: tuple[ScaleCurve, ...]
    sources: tuple[str, ...]
    single_seconds: float
    dynamic: tuple[tuple[str, str], ...] = ()

    def backend(self, name: str) -> BackendView | None:
        """Return the view of a backend; None where it has none."""
        return next((item for item in self.backends if item.name == name), None)

    def encode(self) -> bytes:
        """Return the view as JSON."""
        return json.dumps(to_plain(self), separators=(",", ":"), allow_nan=False).encode()


def decode_view(content: bytes) -> PlacementView:
    """Return the view that `encode` wrote. Raises RecordError where it is none."""
    try:
        return from_plain(PlacementView, json.loads(content))
    except ValueError as error:
        raise RecordError(f"{VIEW_FILE} is no saved view of a placement: {error}; optimize the run again") from error
