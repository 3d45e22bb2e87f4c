"""A workload's model on which forms of layers are tried and measured, on inputs of its own."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch

from analyzer.peak import state_bytes
from analyzer.progress import Progress
from analyzer.workload import Workload
from optimizers.fusion.timing import compare
from optimizers.plan import Refusal
from optimizers.quantization.answers import Reference
from optimizers.quantization.assemble import assembled, by_layer
from optimizers.quantization.compressed import CompressedWeight
from optimizers.quantization.errors import CompressionError
from optimizers.quantization.finetune import tune
from optimizers.quantization.form_weights import FormWeights
from optimizers.quantization.forms import FLOAT, Form
from optimizers.quantization.options import QuantizationOptions
from optimizers.quantization.packed_state import kinds_of
from optimizers.quantization.pick import picked
from optimizers.quantization.schedule import Schedule
from optimizers.quantization.sensitivity import EXACT, Answers, Layer, LayerForm, float_form
from optimizers.quantization.stage import Stage

CALIBRATION_SEED, CALIBRATION_BATCHES = 20_000, 16
LAYER_SECONDS, STEP_SECONDS = 0.04, 0.4
"""Spent on timing one layer in one form, and one mix as a whole."""


class ModelBench:
    """The model of a workload: see sensitivity.Bench.

    form_weights: compressed weights by layer and form. reference: the model's answers as it was.
    """

    def __init__(self, workload: Workload, options: QuantizationOptions, progress: Progress) -> None:
        """Run the model for its answers and its layers' inputs. Raises CompressionError where that cannot be."""
        self._options, self._float = options, workload.model
        self.form_weights = FormWeights(workload.model, options)
        self.layers = self.form_weights.layers
        self._stage = Stage(workload.model)
        step_seconds = _step_seconds(workload)
        tries = sum(form != FLOAT for layer in self.layers for form in layer.forms)
        self.reference = Reference(workload, _batches(16, step_seconds, 4, 64))
        self._alone = _batches(tries, step_seconds, 2, 8)
        self._arguments = _first_arguments(workload, self.layers)
        self._calls: dict[str, Callable[[torch.nn.Module], Any]] = {
            name: partial(_run, args=args, kwargs=kwargs) for name, (args, kwargs) in self._arguments.items()
        }
        seeds = workload.calibration or range(CALIBRATION_SEED, CALIBRATION_SEED + CALIBRATION_BATCHES)
        self._calibration = [workload.batch(seed) for seed in seeds]
        self.form_weights.calibrate(self._calibration, progress)
        self._modules: dict[tuple[str, str], dict[str, torch.nn.Module]] = {}
        self._step = partial(_run, args=workload.batch(0)[0], kwargs=workload.batch(0)[1])

    @property
    def bytes(self) -> int:
        """Return the bytes of all parameters and buffers of the model as it was."""
        return state_bytes(self._float)

    def measured(self, layer: Layer, form: Form) -> LayerForm:
        """Return the layer in this form alone, measured."""
        if form == FLOAT:
            return float_form(layer, self._layer_seconds(layer, None)[0])
        try:
            found, modules = self.form_weights.of(layer, form), self._replaced(layer, form)
            size = self.form_weights.file_bytes(layer, form)
        except CompressionError as error:
            return LayerForm(form, layer.bytes, math.inf, math.inf, math.inf, EXACT, str(error))
        answers = self.reference.compare(self._stage.exchange(modules), self._alone, whole=False)
        before, after = self._layer_seconds(layer, modules[layer.name])
        return LayerForm(form, size, max(item.error for item in found.report), after, before, answers)

    def whole(self, chosen: Mapping[str, Form]) -> tuple[Answers, float]:
        """Return the answers of the model with the chosen forms, and its speedup over the model as it is."""
        return self.judged(self.model(chosen))

    def judged(self, model: torch.nn.Module) -> tuple[Answers, float]:
        """Return the answers of a compressed model, and its speedup over the model as it is."""
        timed = compare(lambda: self._step(self._float), lambda: self._step(model), STEP_SECONDS)
        return self.reference.compare(model), timed.ratio

    def model(self, chosen: Mapping[str, Form]) -> torch.nn.Module:
        """Return the model with the chosen forms, the same object each time; all other weights are the model's own."""
        layers = {layer.name: layer for layer in self.layers}
        modules: dict[str, torch.nn.Module] = {}
        for name, form in chosen.items():
            if form != FLOAT:
                modules |= self._replaced(layers[name], form)
        return self._stage.exchange(modules)

    def tuned(
        self, chosen: Mapping[str, Form], progress: Progress
    ) -> tuple[torch.nn.Module, dict[str, CompressedWeight]]:
        """Return a model of its own with the chosen forms and its weights, their shared values moved by gradients.

        Raises CompressionError where nothing of them can be moved.
        """
        weights, activations = self.form_weights.chosen(chosen)
        process = Schedule(finetune="centroids", steps=self._options.finetune_steps)
        moved = tune(self._float, weights, process, self._calibration, progress)
        made = assembled(self._float, moved, activations, kinds_of(self.model(chosen), weights))
        if isinstance(made, Refusal):
            raise CompressionError(made.reason)
        return made, moved

    def _replaced(self, layer: Layer, form: Form) -> dict[str, torch.nn.Module]:
        """Return the layer's module in a form, and those of layers with the same weights. Raises CompressionError."""
        key = layer.name, form.name
        if key not in self._modules:
            found, goal = self.form_weights.of(layer, form), self._options.goal
            made = {}
            for name, weights in by_layer(found.weights).items():
                module, how = self.form_weights.targets[name].module, found.activations[name]
                made[name] = picked(module, weights, how, self._calls.get(name), goal)
            self._modules[key] = made
        return self._modules[key]

    def _layer_seconds(self, layer: Layer, module: torch.nn.Module | None) -> tuple[float, float]:
        """Return the seconds of the layer as it is and exchanged, on a real step's inputs; 0 if it is never reached."""
        call = self._calls.get(layer.name)
        if call is None:
            return 0.0, 0.0
        original = self.form_weights.targets[layer.name].module
        timed = compare(lambda: call(original), lambda: call(module or original), LAYER_SECONDS)
        return timed.first_seconds, timed.second_seconds


def _first_arguments(workload: Workload, layers: Sequence[Layer]) -> dict[str, tuple[Any, Any]]:
    """Return what each layer was called with first in a step."""
    found: dict[str, tuple[Any, Any]] = {}
    modules = dict(workload.model.named_modules())

    def watch(name: str, _module: torch.nn.Module, args: Any, kwargs: Any) -> None:
        found.setdefault(name, (args, kwargs))

    handles = [
        modules[layer.name].register_forward_pre_hook(partial(watch, layer.name), with_kwargs=True)
        for layer in layers
        if not layer.refusal or layer.tied
    ]
    try:
        _run(workload.model, *workload.batch(0))
    finally:
        for handle in handles:
            handle.remove()
    return found


def _run(module: torch.nn.Module, args: Any, kwargs: Any) -> Any:
    with torch.no_grad():
        return module(*args, **kwargs)


def _step_seconds(workload: Workload) -> float:
    args, kwargs = workload.batch(0)
    step = partial(_run, workload.model, args, kwargs)
    try:
        timed = compare(step, step, 0.05)
    except Exception as error:
        raise CompressionError(f"the model raised {type(error).__name__}: {error}; mend it or its inputs") from error
    return timed.first_seconds


def _batches(tries: int, step_seconds: float, least: int, most: int, seconds: float = 30.0) -> int:
    """Return how many batches a comparison takes so that all tries together take about `seconds`."""
    return int(min(max(seconds / max(tries * step_seconds, 1e-9), least), most))
