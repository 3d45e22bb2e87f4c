"""A model that is none: layers whose losses, bytes and times are given, for tests of the search alone."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field

from optimizers.quantization.forms import FLOAT, Form
from optimizers.quantization.sensitivity import EXACT, Answers, Layer, LayerForm, float_form

FORMS = (FLOAT, Form("int8", 8), Form("kmeans", 4), Form("kmeans", 3))
LOSSES = {"float": 0.0, "int8": 1e-5, "kmeans-4": 1e-3, "kmeans-3": 6e-3}
SPEEDS = {"float": 1.0, "int8": 3.0, "kmeans-4": 2.8, "kmeans-3": 2.8}


@dataclass
class FakeBench:
    """Losses add up, times `coupling`; a layer in `slow` is slower in every form but float."""

    count: int = 7
    seed: int = 0
    coupling: float = 1.0
    slow: frozenset[str] = frozenset()
    refused: frozenset[tuple[str, str]] = frozenset()
    forms: tuple[Form, ...] = FORMS
    measured_forms: list[tuple[str, str]] = field(default_factory=list)
    wholes: list[dict[str, str]] = field(default_factory=list)

    def __post_init__(self):
        draw = random.Random(self.seed)
        self.layers = [
            Layer(f"layer.{k}", "linear", ((rows, 96),), 4 * rows * 96, self.forms)
            for k, rows in enumerate(draw.choice((17, 64, 129, 384)) for _ in range(self.count))
        ]
        self.weights = {layer.name: draw.uniform(0.2, 5.0) for layer in self.layers}

    def measured(self, layer, form):
        self.measured_forms.append((layer.name, form.name))
        seconds = layer.bytes * 1e-9
        if (layer.name, form.name) in self.refused:
            return LayerForm(form, 0, math.inf, seconds, seconds, EXACT, "it cannot")
        if form == FLOAT:
            return float_form(layer, seconds)
        (rows, columns) = layer.shapes[0]
        loss = self.loss(layer.name, form.name)
        speed = 0.5 if layer.name in self.slow else SPEEDS[form.name]
        size = form.predicted_bytes(rows, columns)
        return LayerForm(form, size, loss, seconds / speed, seconds, Answers(1 - loss, None, {}))

    def loss(self, layer, form):
        return self.weights[layer] * LOSSES[form]

    def whole(self, chosen):
        names = {layer: form.name for layer, form in chosen.items()}
        self.wholes.append(names)
        loss = self.coupling * sum(self.loss(layer, form) for layer, form in names.items())
        before = sum(layer.bytes for layer in self.layers)
        after = sum(
            layer.bytes
            / (0.5 if layer.name in self.slow and names[layer.name] != "float" else SPEEDS[names[layer.name]])
            for layer in self.layers
        )
        agreement = 1 - 2 * loss
        return Answers(1 - loss, agreement, {"top1": loss}), before / after
