"""The weights of a model's layers in every form that is tried: compressed when first asked for, then kept."""

from __future__ import annotations

import glob
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch

from analyzer.progress import Progress
from analyzer.workload import Arguments
from optimizers.quantization.compress import calibrate
from optimizers.quantization.compressed import CompressedWeight
from optimizers.quantization.errors import CompressionError
from optimizers.quantization.file_bytes import file_bytes
from optimizers.quantization.forms import FLOAT, GROUP, LOW_RANK, PRUNE, Form
from optimizers.quantization.layers import CompressedLayers, Statistics, compress_layers, tied_names
from optimizers.quantization.options import QuantizationOptions
from optimizers.quantization.rules import FITS, Rule
from optimizers.quantization.sensitivity import Layer
from optimizers.quantization.targets import Target, targets


class FormWeights:
    """Layers of a model with their compressed weights by form; the model is not changed.

    layers: all that have weights, those that stay as they are with the reason. targets: the same, with their modules.
    """

    def __init__(self, model: torch.nn.Module, options: QuantizationOptions) -> None:
        self._model, self._options = model, options
        self.targets = {target.name: target for target in targets(model)}
        self._followers = _followers(model, list(self.targets.values()))
        self.layers = tuple(self._layer(target) for target in self.targets.values() if _is_shown(target))
        self._statistics: Statistics = {}
        self._made: dict[tuple[str, str], CompressedLayers] = {}

    def calibrate(self, batches: Sequence[Arguments], progress: Progress) -> None:
        """Run the model on the batches, where the fit of some form looks at its layers' inputs."""
        rules = [
            rule
            for layer in self.layers
            for form in layer.forms
            if form != FLOAT and not layer.refusal
            for rule in self._rules(self.targets[layer.name], form)
        ]
        # Of a layer's rules the last one says what is looked at: error feedback needs most.
        rules.sort(key=lambda rule: FITS.index(rule.fit))
        if any(rule.needs_inputs for rule in rules):
            self._statistics = calibrate(self._model, rules, batches, progress=progress)

    def of(self, layer: Layer, form: Form) -> CompressedLayers:
        """Return a layer's weights in a form, with those of layers that share them. Raises CompressionError."""
        key = layer.name, form.name
        if key not in self._made:
            names = (layer.name, *self._followers.get(layer.name, ()))
            rules = [rule for name in names for rule in self._rules(self.targets[name], form)]
            self._made[key] = compress_layers(self._model, rules, self._statistics)
        found = self._made[key]
        refusal = next((item.refusal for item in found.report if item.refusal), "")
        if refusal:
            raise CompressionError(refusal)
        return found

    def file_bytes(self, layer: Layer, form: Form) -> int:
        """Return the bytes of a layer's weights in a form as files hold them. Raises CompressionError."""
        weights = {id(weight): weight for weight in self.of(layer, form).weights.values()}
        return sum(file_bytes(weight, self._options.files_coding) for weight in weights.values())

    def chosen(self, forms: Mapping[str, Form]) -> tuple[dict[str, CompressedWeight], dict[str, str]]:
        """Return the weights of the chosen forms by full name, and how each layer takes its inputs."""
        weights: dict[str, CompressedWeight] = {}
        activations: dict[str, str] = {}
        for layer in self.layers:
            if forms.get(layer.name, FLOAT) != FLOAT:
                found = self.of(layer, forms[layer.name])
                weights |= found.weights
                activations |= found.activations
        return weights, activations

    def matrices(self, name: str) -> tuple[tuple[str, torch.nn.Parameter], ...]:
        """Return the weights of a layer by full name, as they were."""
        return tuple((name, self._model.get_parameter(name)) for name in self.targets[name].parameters)

    def _layer(self, target: Target) -> Layer:
        first = next((name for name, others in self._followers.items() if target.name in others), "")
        refusal = target.refusal or (f"it has the weights of {first}, and takes its form" if first else "")
        forms = self._options.forms(target.name, target.kind) if not refusal else (FLOAT,)
        if forms == (FLOAT,) and not refusal:
            refusal = "it is not among the layers to compress"
        size = 0 if first else target.bytes
        return Layer(target.name, target.kind, target.shapes, size, forms, refusal, first)

    def _rules(self, target: Target, form: Form) -> list[Rule]:
        """Return the rules that a form stands for, one for each parameter of a layer."""
        fit = "plain" if target.kind == "embedding" else self._options.fit
        if form.degree and fit == "gptq":
            fit = "diagonal"  # error feedback would move weights that are to become zero
        shapes = zip(target.parameters, target.shapes, strict=True)
        return [
            replace(_rule(form, fit, form.rank(*shape)), layers=glob.escape(parameter)) for parameter, shape in shapes
        ]


def _rule(form: Form, fit: str, rank: int) -> Rule:
    """Return the rule of a form for any layer. fit: of codebooks and of pruning; rank: of thin matrices."""
    if form.method == "kmeans":
        return Rule("*", "kmeans", form.bits, form.scope, GROUP, fit, sparsity=form.degree or None)
    if form.method == PRUNE:
        return Rule("*", PRUNE, fit=fit, sparsity=form.degree)
    if form.method == LOW_RANK:
        return Rule("*", LOW_RANK, rank=rank)
    if form.method == "int8-weight-only":
        return Rule("*", "int8", activations="float")
    return Rule("*", form.method)


def _is_shown(target: Target) -> bool:
    """Return whether a layer's weights are worth a line: those of norms and biases are not."""
    return target.kind != "other" or any(rows > 1 for rows, _ in target.shapes)


def _followers(model: torch.nn.Module, found: Sequence[Target]) -> dict[str, tuple[str, ...]]:
    """Return, by name of the first layer, the further layers that have its weights."""
    owners = {parameter: target.name for target in found for parameter in target.parameters}
    tied = tied_names(model)
    followers: dict[str, tuple[str, ...]] = {}
    seen: set[str] = set()
    for target in found:
        if target.name in seen or target.kind == "other":
            continue
        others = {owners[other]: None for name in target.parameters for other in tied.get(name, ()) if other in owners}
        followers[target.name] = tuple(name for name in others if name != target.name)
        seen |= set(others)
    return {name: others for name, others in followers.items() if others}
