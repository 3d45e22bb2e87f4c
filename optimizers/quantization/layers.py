"""Rules carried out on the layers of a model, one weight after the other; nothing is built or measured yet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from analyzer.progress import Progress, silent
from kernels.quantized.gptq import output_error
from optimizers.plan import Refusal
from optimizers.quantization.compressed import CompressedWeight
from optimizers.quantization.methods import compress_weight
from optimizers.quantization.methods.prune import DEFAULT_SPARSITY
from optimizers.quantization.methods.weight import WeightInputs
from optimizers.quantization.report import LayerReport
from optimizers.quantization.rules import Rule, chosen
from optimizers.quantization.statistics import InputStatistics
from optimizers.quantization.targets import Target, matrix, parameter_of, targets

Statistics = Mapping[str, InputStatistics]


@dataclass(frozen=True, slots=True, eq=False)
class CompressedLayers:
    """weights: by parameter name; tied parameters share one. report: every weight that a rule named.

    activations: by layer, "dynamic" or "float".
    """

    weights: dict[str, CompressedWeight]
    report: tuple[LayerReport, ...]
    activations: dict[str, str]


def compress_layers(
    model: torch.nn.Module,
    rules: Sequence[Rule],
    statistics: Statistics | None = None,
    threads: int | None = None,
    progress: Progress = silent,
) -> CompressedLayers:
    """Return the compressed form of every weight that a rule names, and the refusals, without building a model.

    Raises CompressionError for no rule, or one that matches nothing.
    """
    found = targets(model)
    rule_of, owners = chosen(rules, found), {name: target for target in found for name in target.parameters}
    tied = tied_names(model)
    weights: dict[str, CompressedWeight] = {}
    report, activations = [], {}
    for number, (name, rule) in enumerate(rule_of.items()):
        target = owners[name]
        progress(f"compressing {name}", number / len(rule_of))
        if rule.method == "float":
            continue
        first = next((other for other in tied.get(name, ()) if other in weights), "")
        answer: CompressedWeight | Refusal
        if reason := target.refusal or _tie_refusal(name, rule, tied, rule_of, owners):
            answer = Refusal("quantization", reason)
        elif first:
            answer = weights[first]
        else:
            answer = compress_weight(_inputs(model, name, target, statistics or {}, tied, threads), rule)
        report.append(_report(model, name, target, answer, first, statistics or {}))
        if isinstance(answer, CompressedWeight):
            weights[name] = answer
            activations[target.name] = rule.activations
    progress("compressed", 1.0)
    return CompressedLayers(weights, tuple(report), activations)


def reported(model: torch.nn.Module, layers: CompressedLayers, statistics: Statistics) -> CompressedLayers:
    """Return the layers with the errors of their present weights against the model's."""
    report = []
    for layer in layers.report:
        weight = layers.weights.get(layer.name)
        if weight is None:
            report.append(layer)
            continue
        error, off = _errors(matrix(parameter_of(model, layer.name)), weight, statistics.get(layer.name))
        report.append(replace(layer, error=error, output_error=off))
    return replace(layers, report=tuple(report))


def sparsities(model: torch.nn.Module, rules: Sequence[Rule]) -> dict[str, float]:
    """Return the sparsity that the rules ask for, by parameter; nothing of layers that no method takes."""
    found = targets(model)
    owners = {name: target for target in found for name in target.parameters}
    asked = {
        name: DEFAULT_SPARSITY if rule.sparsity is None and rule.method == "prune" else rule.sparsity or 0.0
        for name, rule in chosen(rules, found).items()
        if not owners[name].refusal
    }
    return {name: sparsity for name, sparsity in asked.items() if sparsity}


def wanted_statistics(model: torch.nn.Module, rules: Sequence[Rule]) -> dict[str, bool]:
    """Return the parameters whose inputs the rules look at -> whether the whole Hessian is needed."""
    found = targets(model)
    owners = {name: target for target in found for name in target.parameters}
    return {
        name: rule.fit == "gptq" and owners[name].kind != "embedding"
        for name, rule in chosen(rules, found).items()
        if rule.needs_inputs and not owners[name].refusal
    }


def tied_names(model: torch.nn.Module) -> dict[str, tuple[str, ...]]:
    """Return parameter name -> the other names whose values lie in the same memory, for those that have any."""
    places: dict[tuple[int, torch.Size], list[str]] = {}
    for name, parameter in _all_parameters(model):
        if parameter.numel():
            places.setdefault((parameter.data_ptr(), parameter.shape), []).append(name)
    return {name: tuple(n for n in names if n != name) for names in places.values() for name in names if len(names) > 1}


def _all_parameters(model: torch.nn.Module) -> Iterator[tuple[str, torch.nn.Parameter]]:
    """Return every parameter of every module once; one that two modules have, twice."""
    for name, module in model.named_modules():
        for key, parameter in module._parameters.items():
            if parameter is not None and not torch.nn.parameter.is_lazy(parameter):
                yield (f"{name}.{key}" if name else key), parameter


def _tie_refusal(
    name: str,
    rule: Rule,
    tied: Mapping[str, tuple[str, ...]],
    rule_of: Mapping[str, Rule],
    owners: Mapping[str, Target],
) -> str:
    """Return why a weight that others share cannot be compressed: then they all are, in the same way, or none is."""
    for other in tied.get(name, ()):
        owner = owners.get(other)
        if owner is not None and owner.refusal:
            return f"it shares its values with {other}, which stays float: {owner.refusal}"
        if rule_of.get(other) is None or rule_of[other].method == "float":
            return f"it shares its values with {other}, which no rule compresses; name both in the rule"
        if _degree(rule_of[other]) != _degree(rule):
            return f"it shares its values with {other}, which another rule compresses; give both the same rule"
    return ""


def _degree(rule: Rule) -> tuple[object, ...]:
    return rule.method, rule.code_bits, rule.scope, rule.group, rule.fit, rule.sparsity, rule.rank, rule.activations


def _inputs(
    model: torch.nn.Module,
    name: str,
    target: Target,
    statistics: Statistics,
    tied: Mapping[str, tuple[str, ...]],
    threads: int | None,
) -> WeightInputs:
    kind, found = target.kind, statistics.get(name)
    # an embedding that is also multiplied with is fitted to what it is multiplied with
    for other in tied.get(name, ()):
        if other in statistics and statistics[other].hessian is not None and (found is None or found.hessian is None):
            kind, found = "linear", statistics[other]
    return WeightInputs(matrix(parameter_of(model, name)), kind, found, threads or torch.get_num_threads())


def _report(
    model: torch.nn.Module,
    name: str,
    target: Target,
    answer: CompressedWeight | Refusal,
    tied_to: str,
    statistics: Statistics,
) -> LayerReport:
    parameter = parameter_of(model, name)
    lazy = torch.nn.parameter.is_lazy(parameter)
    size = 0 if lazy or tied_to else parameter.numel() * parameter.element_size()
    if isinstance(answer, Refusal):
        return LayerReport(name, target.name, target.kind, "float", 32, None, size, size, 0.0, refusal=answer.reason)
    error, off = _errors(matrix(parameter), answer, statistics.get(name))
    after = 0 if tied_to else answer.stored_bytes
    return LayerReport(
        name, target.name, target.kind, answer.method, answer.bits, answer.group, size, after, error, off,
        tied_to=tied_to,
    )  # fmt: skip


def _errors(
    values: NDArray[np.float32], weight: CompressedWeight, known: InputStatistics | None
) -> tuple[float, float | None]:
    """Return the error of the weight, and of what it computes where its inputs are known."""
    if known is None or known.hessian is None or known.hessian.shape[0] != values.shape[1]:
        return weight.error(values), None
    return weight.error(values), output_error(values, weight.dequantised(), known.hessian)
