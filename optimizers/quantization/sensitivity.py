"""What each layer costs and loses in each form, measured one layer at a time while all others stay as they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from analyzer.progress import Progress
from optimizers.quantization.allocate import Choice
from optimizers.quantization.forms import FLOAT, Form


@dataclass(frozen=True, slots=True)
class Answers:
    """How close answers are to those of the uncompressed model on the same inputs.

    agreement: share of equal arg-max; None where answers have none. metric_drop: by how much each metric fell.
    """

    cosine: float
    agreement: float | None
    metric_drop: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of the model and the forms it may take, the safest first. tied: whose weights it shares; "" if none."""

    name: str
    kind: str
    shapes: tuple[tuple[int, int], ...]
    bytes: int
    forms: tuple[Form, ...]
    refusal: str = ""
    tied: str = ""


@dataclass(frozen=True, slots=True)
class LayerForm:
    """One layer in one form, measured.

    bytes: of its weights as stored. error: |compressed - weights| / |weights|. seconds: what the layer takes on inputs
    of a real step; seconds_float: uncompressed, timed alternately. answers: of the model with this layer alone changed.
    refusal: why the form cannot be taken; "" if it can.
    """

    form: Form
    bytes: int
    error: float
    seconds: float
    seconds_float: float
    answers: Answers
    refusal: str = ""

    @property
    def loss(self) -> float:
        """Return what the answers lose: 1 - cosine, 0 or more."""
        return max(0.0, 1.0 - self.answers.cosine)


@dataclass(frozen=True, slots=True)
class LayerSensitivity:
    """One layer with all its forms that were measured, the safest first."""

    layer: Layer
    forms: tuple[LayerForm, ...]

    @property
    def seconds(self) -> float:
        """Return what the layer takes as it is: the quickest of its timings beside the other forms."""
        return min((form.seconds_float for form in self.forms if not form.refusal), default=0.0)

    def seconds_of(self, form: LayerForm) -> float:
        """Return what the layer takes in a form: the two were timed alternately, so that their ratio holds."""
        return self.seconds * form.seconds / form.seconds_float if form.seconds_float else 0.0

    def form(self, name: str) -> LayerForm:
        """Return the form of that name."""
        return next(item for item in self.forms if item.form.name == name)


class Bench(Protocol):
    """A model on which forms can be tried; nothing of the model itself is changed."""

    @property
    def layers(self) -> Sequence[Layer]:
        """Return all layers with weights, those that stay as they are included."""
        ...

    def measured(self, layer: Layer, form: Form) -> LayerForm:
        """Return one layer in one form, measured; a refusal in words where it cannot be taken."""
        ...

    def whole(self, chosen: Mapping[str, Form]) -> tuple[Answers, float]:
        """Return the answers of the model with the chosen forms, and its speedup over the model as it is."""
        ...


EXACT = Answers(1.0, None, {})


def measure_layers(bench: Bench, progress: Progress) -> tuple[LayerSensitivity, ...]:
    """Return the sensitivity of every layer that is not refused, in the order of the model."""
    layers = [layer for layer in bench.layers if not layer.refusal]
    count = sum(len(layer.forms) for layer in layers)
    found: list[LayerSensitivity] = []
    done = 0
    for layer in layers:
        measured = []
        for form in layer.forms:
            progress(f"measuring {layer.name} as {form.name}", done / max(count, 1))
            measured.append(bench.measured(layer, form))
            done += 1
        found.append(LayerSensitivity(layer, tuple(measured)))
    return tuple(found)


def float_form(layer: Layer, seconds: float) -> LayerForm:
    """Return the layer as it is."""
    return LayerForm(FLOAT, layer.bytes, 0.0, seconds, seconds, EXACT)


Cost = Callable[[LayerSensitivity, LayerForm], float]


def choices(measured: Sequence[LayerSensitivity], cost: Cost) -> dict[str, tuple[Choice, ...]]:
    """Return what each layer can choose from, by its name."""
    return {
        item.layer.name: tuple(
            Choice(form.form.name, cost(item, form), form.loss) for form in item.forms if not form.refusal
        )
        for item in measured
    }


def cost_of(measured: Sequence[LayerSensitivity], goal: str) -> Cost:
    """Return what a form costs: its share of all bytes, of all time, or ("both") the sum of the two shares."""
    size = sum(item.layer.bytes for item in measured) or 1
    seconds = sum(item.seconds for item in measured) or 1.0
    of_bytes, of_seconds = {"size": (1.0, 0.0), "speed": (0.0, 1.0), "both": (1.0, 1.0)}[goal]
    # Where all that counts is equal, the smaller and then the quicker form is taken.
    least = 1e-6
    of_bytes, of_seconds = max(of_bytes, least), max(of_seconds, least)
    return lambda item, form: of_bytes * form.bytes / size + of_seconds * item.seconds_of(form) / seconds
