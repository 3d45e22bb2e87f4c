"""What a page shows of a compressed model, in plain values: layers with all forms tried, mixes measured, histograms."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analyzer.errors import RecordError
from analyzer.record import from_plain, to_plain
from optimizers.quantization.compressed import CompressedWeight
from optimizers.quantization.search import Found, Point
from optimizers.quantization.sensitivity import LayerForm, LayerSensitivity

FORMAT_VERSION = 1
BINS = 64
MOST_CENTROIDS = 16


@dataclass(frozen=True, slots=True)
class FormView:
    """One layer in one form, measured alone; error is |compressed - weights| / |weights|."""

    name: str
    bits: int
    bytes: int
    error: float
    cosine: float
    agreement: float | None
    seconds: float
    seconds_float: float
    refusal: str


@dataclass(frozen=True, slots=True)
class Histogram:
    """Weights of one matrix counted in bins of equal width from `low` to `high`, and the centroids of what was chosen.

    centroids: of a codebook the k-th value of each codebook in order, its median over the codebooks, with the range
    from the 10th to the 90th percentile; empty where there is no codebook.
    """

    parameter: str
    low: float
    high: float
    counts: tuple[int, ...]
    centroids: tuple[tuple[float, float, float], ...]


@dataclass(frozen=True, slots=True)
class LayerView:
    """One layer: its forms, the safest first, and the one that was chosen. tied: the layer whose weights it shares."""

    name: str
    kind: str
    shapes: tuple[tuple[int, int], ...]
    bytes: int
    chosen: str
    forms: tuple[FormView, ...]
    histograms: tuple[Histogram, ...]
    refusal: str = ""
    tied: str = ""


@dataclass(frozen=True, slots=True)
class PointView:
    """One mix of forms, measured as a whole; reason: why it does not pass the gate, "" if it does."""

    name: str
    bytes: int
    cosine: float
    agreement: float | None
    metric_drop: dict[str, float]
    speedup: float
    reason: str
    chosen: bool


@dataclass(frozen=True, slots=True)
class QuantizationView:
    """All that a page needs. bytes_before: of all weights that were considered; answers: compared on."""

    layers: tuple[LayerView, ...]
    points: tuple[PointView, ...]
    bytes_before: int
    answers: int
    gate: dict[str, float | None]
    format_version: int = FORMAT_VERSION

    def encode(self) -> bytes:
        """Return the view as JSON."""
        return json.dumps(to_plain(self), separators=(",", ":"), allow_nan=False).encode()


def decode_view(content: bytes) -> QuantizationView:
    """Return the view that `encode` wrote. Raises RecordError where it is none, or its parts do not fit together."""
    try:
        view = from_plain(QuantizationView, json.loads(content))
    except ValueError as error:
        raise RecordError(f"not a saved view of a quantization: {error}") from error
    if view.format_version > FORMAT_VERSION:
        raise RecordError(f"the view has format {view.format_version}; this version reads up to {FORMAT_VERSION}")
    for layer in view.layers:
        if not layer.refusal and layer.chosen not in {form.name for form in layer.forms}:
            raise RecordError(
                f"the view's layer {layer.name!r} has chosen {layer.chosen!r}, which is none of its forms"
            )
        if any(not (histogram.low <= histogram.high and histogram.counts) for histogram in layer.histograms):
            raise RecordError(f"the view's layer {layer.name!r} has a histogram without bins")
    return view


def view_of(
    found: Found,
    left: tuple[LayerView, ...],
    weights: Mapping[str, tuple[Histogram, ...]],
    answers: int,
    gate: Mapping[str, float | None],
) -> QuantizationView:
    """Return what a page shows of a search. left: layers that were not considered; weights: histograms by layer."""
    forms = {} if found.best is None else found.best.forms
    layers = tuple(_layer(item, forms.get(item.layer.name, "float"), weights) for item in found.layers)
    points = tuple(_point(point, point is found.best) for point in found.points)
    return QuantizationView((*layers, *left), points, sum(layer.bytes for layer in layers), answers, dict(gate))


def left_layer(name: str, kind: str, shapes: tuple[tuple[int, int], ...], size: int, why: str) -> LayerView:
    """Return a layer that stays as it is, and why."""
    return LayerView(name, kind, shapes, size, "float", (), (), why)


def histogram(parameter: str, values: NDArray[np.float32], compressed: CompressedWeight | None) -> Histogram:
    """Return the histogram of a weight matrix [rows, columns] of finite values, with the centroids of its codebooks."""
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
    # The edges of one bin are apart even where all weights are equal.
    apart = max(abs(low), 1e-6) * 1e-3
    top = high if high > low + apart else low + apart
    counts, _ = np.histogram(values.astype(np.float64), bins=BINS, range=(low, top))
    return Histogram(parameter, low, top, tuple(int(count) for count in counts), _centroids(compressed))


def _centroids(compressed: CompressedWeight | None) -> tuple[tuple[float, float, float], ...]:
    centroids = None if compressed is None else compressed.arrays.get("centroids")
    if centroids is None:
        return ()
    books = np.sort(centroids.reshape(-1, centroids.shape[-1]), axis=1)
    spread = np.percentile(books, (50, 10, 90), axis=0)
    return tuple((float(mid), float(low), float(high)) for mid, low, high in spread.T)


def _layer(item: LayerSensitivity, chosen: str, weights: Mapping[str, tuple[Histogram, ...]]) -> LayerView:
    layer = item.layer
    forms = tuple(_form(form) for form in item.forms)
    drawn = weights.get(layer.name, ())
    return LayerView(layer.name, layer.kind, layer.shapes, layer.bytes, chosen, forms, drawn, "", layer.tied)


def _form(form: LayerForm) -> FormView:
    answers = form.answers
    return FormView(
        form.form.name,
        form.form.bits,
        form.bytes,
        form.error,
        answers.cosine,
        answers.agreement,
        form.seconds,
        form.seconds_float,
        form.refusal,
    )


def _point(point: Point, chosen: bool) -> PointView:
    answers = point.answers
    return PointView(
        point.name,
        point.bytes,
        answers.cosine,
        answers.agreement,
        dict(answers.metric_drop),
        point.speedup,
        point.reason,
        chosen,
    )
