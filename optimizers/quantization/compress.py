"""`hotbench.compress`: rules, a process and a gate in, a smaller model out, or why not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import torch

from analyzer.progress import Progress, part, silent
from analyzer.workload import Arguments, Workload
from optimizers.plan import Refusal
from optimizers.quantization.assemble import assembled
from optimizers.quantization.batches import as_batches
from optimizers.quantization.compressed import CompressedWeight
from optimizers.quantization.errors import CompressionError
from optimizers.quantization.finetune import prune_by_ramp, tune
from optimizers.quantization.gate import Agreement, Evaluate, Gate, evaluating, measure, metrics, reference_outputs
from optimizers.quantization.layers import (
    CompressedLayers,
    compress_layers,
    reported,
    sparsities,
    wanted_statistics,
)
from optimizers.quantization.report import Compressed, LayerReport, layer_records
from optimizers.quantization.rules import Rule
from optimizers.quantization.schedule import Schedule
from optimizers.quantization.statistics import InputStatistics, collect
from optimizers.quantization.targets import targets

FORMAT_VERSION = 1


def compress(
    model: torch.nn.Module | Workload,
    rules: Sequence[Rule] | Rule,
    *,
    inputs: Any = None,
    evaluate: Evaluate | None = None,
    process: Schedule = Schedule(),  # noqa: B008  it is frozen
    gate: Gate = Gate(),  # noqa: B008
    threads: int | None = None,
    progress: Progress = silent,
) -> Compressed | Refusal:
    """Return a compressed copy of the model, or why there is none: no layer could be, or the gate does not pass.

    model:    is not touched. A Workload brings its own inputs and `evaluate`.
    rules:    which layers, how, and how far; of several for a layer the last counts.
    inputs:   to compare answers on: tensors, a list of batches, or a function of the seed; default: those of
              process.calibration, which fits have then seen (a note says so).
    evaluate: `evaluate(model) -> {metric: value}`, higher is better; for Gate.max_metric_drop.
    Raises CompressionError for rules, inputs or a process that cannot be followed.
    """
    rules = (rules,) if isinstance(rules, Rule) else tuple(rules)
    if isinstance(model, Workload):
        inputs, evaluate = model if inputs is None else inputs, evaluate or model.evaluate
        model = model.model
    _check(model, rules)
    with evaluating(model):
        return _Compression(model, rules, inputs, evaluate, process, gate, threads, progress).run()


def calibrate(
    model: torch.nn.Module,
    rules: Sequence[Rule],
    batches: Sequence[Arguments],
    mask: str | None = "attention_mask",
    progress: Progress = silent,
) -> dict[str, InputStatistics]:
    """Return what the rules' fits need to know of layers' inputs, by parameter; nothing where all fits are plain.

    Raises CompressionError where inputs are needed and there are none.
    """
    wanted = wanted_statistics(model, rules)
    if not wanted:
        return {}
    if not batches:
        rule = next(rule for rule in rules if rule.needs_inputs)
        raise CompressionError(
            f"fit={rule.fit!r} of the rule for {rule.pattern!r} needs inputs; give Schedule(calibration=…) or inputs=…"
        )
    with evaluating(model):
        return collect(model, targets(model), wanted, batches, mask, progress)


def _check(model: object, rules: Sequence[object]) -> None:
    if not isinstance(model, torch.nn.Module):
        raise CompressionError(f"compress was given a {type(model).__name__}; give a torch.nn.Module or a Workload")
    wrong = next((rule for rule in rules if not isinstance(rule, Rule)), None)
    if wrong is not None:
        raise CompressionError(f"a rule is a {type(wrong).__name__}; give Rule(layers, method=…)")


class _Compression:
    """One call of compress."""

    def __init__(
        self, model: torch.nn.Module, rules: tuple[Rule, ...], inputs: Any, evaluate: Evaluate | None,
        process: Schedule, gate: Gate, threads: int | None, progress: Progress,
    ) -> None:  # fmt: skip
        self.model, self.rules, self.evaluate, self.process = model, rules, evaluate, process
        self.gate, self.threads, self.progress = gate, threads, progress
        own = as_batches(inputs, "inputs")
        given = as_batches(process.calibration, "Schedule.calibration")
        self.calibration, self.batches = given or own, own or given
        looked_at = process.finetune is not None or any(rule.needs_inputs for rule in rules)
        self.notes: tuple[str, ...] = ()
        if self.batches and looked_at and not (own and given):
            self.notes = ("answers were compared on the inputs that weights were fitted to; give others as inputs=…",)
        if gate.needs_inputs and not self.batches:
            raise CompressionError("the gate compares answers, and there are no inputs; give inputs=…")
        if gate.max_metric_drop is not None and evaluate is None:
            raise CompressionError("Gate.max_metric_drop needs metrics; give evaluate=…, a function of the model")

    def run(self) -> Compressed | Refusal:
        """Return the compressed model or why there is none."""
        statistics = calibrate(self.model, self.rules, self.calibration, self.process.mask, self._part(0, 0.2))
        pruned = self._pruned()
        layers = compress_layers(pruned, self.rules, statistics, self.threads, self._part(0.3, 0.6))
        if pruned is not self.model:
            layers = reported(self.model, layers, statistics)
        if not layers.weights:
            return Refusal("quantization", f"no layer was compressed: {_reasons(layers.report)}")
        reference = reference_outputs(self.model, self.batches, self.process.mask)
        before = metrics(self.model, self.evaluate)
        made = self._assembled(layers)
        if not isinstance(made, Refusal) and self.process.finetune is not None:
            made = self._assembled(self._tuned(made[1], statistics))
        if isinstance(made, Refusal):
            return made
        compressed, layers = made
        self.progress("comparing", 0.9)
        accuracy = measure(compressed, reference, self.batches, self.evaluate, before, self.process.mask)
        if reason := self.gate.reason(accuracy):
            return Refusal("quantization", f"the gate does not pass: {reason}")
        self.progress("compressed", 1.0)
        return self._result(compressed, layers, accuracy)

    def _part(self, start: float, stop: float) -> Progress:
        return part(self.progress, start, stop)

    def _pruned(self) -> torch.nn.Module:
        """Return the model, or, where a ramp is asked for, a copy that became sparse by it."""
        if not self.process.prune_ramp:
            return self.model
        sparsity = sparsities(self.model, self.rules)
        if not sparsity:
            raise CompressionError("Schedule.prune_ramp raises sparsity, and no rule has one; give Rule(…, sparsity=…)")
        return prune_by_ramp(self.model, sparsity, self.process, self.calibration, self._part(0.2, 0.3))

    def _tuned(self, layers: CompressedLayers, statistics: Mapping[str, InputStatistics]) -> CompressedLayers:
        if self.process.steps == self.process.prune_ramp:
            return layers
        weights = tune(self.model, layers.weights, self.process, self.calibration, self._part(0.6, 0.9))
        return reported(self.model, replace(layers, weights=weights), statistics)

    def _assembled(self, layers: CompressedLayers) -> tuple[torch.nn.Module, CompressedLayers] | Refusal:
        """Return the model, and the layers without those that cannot be replaced, which are refused in the report."""
        weights, refused = dict(layers.weights), dict[str, str]()
        for _ in range(len(weights) + 1):
            made = assembled(self.model, weights, layers.activations)
            if isinstance(made, torch.nn.Module):
                return made, _without(layers, weights, refused, made)
            layer, _, reason = made.reason.partition(": ")
            names = [name for name in weights if name.rpartition(".")[0] == ("" if layer == "the model" else layer)]
            refused |= dict.fromkeys(names, reason)
            weights = {name: weight for name, weight in weights.items() if name not in names}
            if not weights:
                break
        return Refusal("quantization", f"no layer was compressed: {'; '.join(dict.fromkeys(refused.values()))}")

    def _result(self, model: torch.nn.Module, layers: CompressedLayers, accuracy: Agreement) -> Compressed:
        before = _state_bytes(self.model)
        saved = sum(layer.bytes_before - layer.bytes_after for layer in layers.report)
        recipe = {
            "format_version": FORMAT_VERSION,
            "rules": [rule.record() for rule in self.rules],
            "process": self.process.record(),
            "gate": asdict(self.gate),
            "activations": dict(layers.activations),
            "layers": layer_records(layers.report),
            "accuracy": accuracy.record(),
        }
        return Compressed(
            model, layers.weights, layers.report, accuracy, recipe, layers.activations, before, before - saved,
            self.notes,
        )  # fmt: skip


def _without(
    layers: CompressedLayers,
    weights: Mapping[str, CompressedWeight],
    refused: Mapping[str, str],
    model: torch.nn.Module,
) -> CompressedLayers:
    report = []
    for layer in layers.report:
        if layer.name in refused:
            left = replace(layer, method="float", bits=32, group=None, bytes_after=layer.bytes_before, error=0.0)
            report.append(replace(left, output_error=None, refusal=refused[layer.name]))
        elif layer.name in weights:
            report.append(replace(layer, kernel=_kernel(model, layer)))
        else:
            report.append(layer)
    kept = {name: how for name, how in layers.activations.items() if any(n.rpartition(".")[0] == name for n in weights)}
    return CompressedLayers(dict(weights), tuple(report), kept)


def _kernel(model: torch.nn.Module, layer: LayerReport) -> str:
    module = model.get_submodule(layer.layer)
    return str(getattr(module, "kernel", "torch float32"))


def _state_bytes(model: torch.nn.Module) -> int:
    """Return the bytes of parameters and buffers, each once."""
    tensors = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    return sum(
        tensor.numel() * tensor.element_size() for tensor in tensors.values() if not torch.nn.parameter.is_lazy(tensor)
    )


def _reasons(report: Sequence[LayerReport]) -> str:
    found = dict.fromkeys(f"{layer.name}: {layer.refusal}" for layer in report if layer.refusal)
    shown = list(found)[:3]
    more = f" (and {len(found) - 3} more)" if len(found) > 3 else ""
    return "; ".join(shown) + more if shown else "the rules leave every layer float"
