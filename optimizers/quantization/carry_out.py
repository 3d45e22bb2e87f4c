"""A plan carried out: forms searched for under the gate, the model compressed, and all that repeating it needs."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import torch

from analyzer.errors import RecordError
from analyzer.peak import STORED_BYTES
from analyzer.progress import Progress, part
from analyzer.workload import Workload
from optimizers.plan import Applied, Plan, Refusal
from optimizers.quantization.assemble import assembled
from optimizers.quantization.bench import ModelBench
from optimizers.quantization.compressed import CompressedWeight
from optimizers.quantization.encode import WEIGHTS_FILE, decode, encode
from optimizers.quantization.forms import FLOAT
from optimizers.quantization.limits import Limits
from optimizers.quantization.options import NAME, QuantizationOptions, unmatched
from optimizers.quantization.packed_state import kinds_of, rest_of
from optimizers.quantization.search import Found, Point, search
from optimizers.quantization.sensitivity import LayerSensitivity
from optimizers.quantization.targets import matrix
from optimizers.quantization.tuned_mix import Tuned, tune_mixes
from optimizers.quantization.views import QuantizationView, histogram, left_layer, view_of

VIEW_FILE = "quantization_view.json"
LEAST_SAVING = 0.01
"""A model that is not even so much smaller, as a fraction, must at least be quicker."""


def carry_out(
    workload: Workload, plan: Plan, options: QuantizationOptions, progress: Progress
) -> tuple[Workload, Applied] | Refusal:
    """Return the workload with its model compressed, and how to repeat it; a Refusal with the figures otherwise.

    Raises HotbenchError where the model cannot be run, copied or compared.
    """
    progress("running the model as it is", 0.0)
    bench = ModelBench(workload, options, part(progress, 0.0, 0.1))
    names = tuple(layer.name for layer in bench.layers)
    wrong = unmatched(options.layers, names) or unmatched(options.include, names)
    if wrong:
        return Refusal(NAME, f"no layer of the model is called {wrong[0]!r}; its layers are: {', '.join(names)[:300]}")
    limits = Limits(options.min_agreement, options.min_cosine, options.max_metric_drop)
    searched = 0.95 if options.finetune_steps == 0 else 0.6
    found = search(bench, limits, options.goal, options.max_slowdown, part(progress, 0.1, searched))
    tuned = Tuned(found)
    if options.finetune_steps:
        tuned = tune_mixes(bench, found, limits, options.finetune_steps, part(progress, searched, 0.95))
    found = tuned.found
    reason = _refusal(bench, found)
    if reason:
        return Refusal(NAME, reason)
    progress("saving the codes", 0.97)
    chosen = found.chosen()
    weights, activations = bench.form_weights.chosen(chosen)
    weights = weights if tuned.weights is None else dict(tuned.weights)
    made = bench.model(chosen) if tuned.model is None else tuned.model
    # Compressed layers have no gradients: a model without any runs outside of no_grad, too.
    workload.model = made.requires_grad_(False)
    recipe = {
        "activations": activations,
        "forms": {name: form.name for name, form in chosen.items()},
        "coding": options.files_coding,
    }
    files = encode(weights, recipe, None, kinds_of(workload.model, weights), coding=options.files_coding)
    _tell_size(workload.model, weights, files)
    view = _view(bench, found, options, weights)
    done = Applied(plan, _decisions(bench, found, files, options.files_coding), {**files, VIEW_FILE: view.encode()})
    return workload, done


def restore(workload: Workload, applied: Applied) -> Workload:
    """Put a candidate's compressed weights into a fresh model. Raises RecordError where they differ or do not fit."""
    files = {name: content for name, content in applied.blobs.items() if name != VIEW_FILE}
    if applied.decisions.get("files") != _hashes(files):
        raise RecordError("the candidate's weights are not those that were measured; optimize the run again")
    decoded = decode(files)
    made = assembled(workload.model, decoded.weights, decoded.recipe["activations"], decoded.kinds)
    if isinstance(made, Refusal):
        raise RecordError(f"the compressed weights do not fit the model: {made.reason}")
    workload.model = made.requires_grad_(False)
    _tell_size(workload.model, decoded.weights, files)
    return workload


def _tell_size(model: torch.nn.Module, weights: Mapping[str, CompressedWeight], files: Mapping[str, bytes]) -> None:
    """Let an experiment count the bytes of the model's file: in memory, pruned weights and codes may take more."""
    rest = {value.data_ptr(): value.nbytes for value in rest_of(model, weights).values()}
    setattr(model, STORED_BYTES, len(files[WEIGHTS_FILE]) + sum(rest.values()))


def _refusal(bench: ModelBench, found: Found) -> str:
    """Return why nothing is changed, with the figures; "" where something is."""
    if not found.layers:
        why = next((f"{layer.name}: {layer.refusal}" for layer in bench.layers if layer.refusal), "it has no weights")
        return f"no layer can be compressed; {why}"
    if found.best is None or all(name == FLOAT.name for name in found.best.forms.values()):
        return _figures(found)
    before = sum(item.layer.bytes for item in found.layers)
    saved = before - found.best.bytes
    if saved <= LEAST_SAVING * bench.bytes and found.best.speedup <= 1.0:
        share = 1.0 - saved / max(bench.bytes, 1)
        return f"nothing is gained: {share:.3f} of the model's bytes, {found.best.speedup:.3f}x as quick"
    return ""


def _figures(found: Found) -> str:
    """Return that nothing passes the gate, with the figures of the mix that came closest."""
    refused = sum(bool(form.refusal) for item in found.layers for form in item.forms)
    tried = [point for point in found.points if not point.passed]
    if not tried:
        why = next((form.refusal for item in found.layers for form in item.forms if form.refusal), "")
        return f"no form saves anything{f'; {refused} were refused, such as: {why}' if why else ''}"
    closest = max(tried, key=lambda point: point.answers.cosine)
    return f"no mix passes the gate; the closest ({closest.name}): {closest.reason}"


def _hashes(files: Mapping[str, bytes]) -> dict[str, str]:
    return {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}


def _decisions(bench: ModelBench, found: Found, files: Mapping[str, bytes], coding: str) -> dict[str, Any]:
    """Return, as plain JSON, what was decided and what was measured of it."""
    best = found.best
    assert best is not None
    layers = [_layer_record(item, best.forms[item.layer.name]) for item in found.layers]
    return {
        "files": _hashes(files),
        "bytes_before": sum(item.layer.bytes for item in found.layers),
        "bytes_after": best.bytes,
        "cosine": best.answers.cosine,
        "agreement": best.answers.agreement,
        "speedup_of_the_step": best.speedup,
        "answers_compared": bench.reference.rows,
        "mix": best.name,
        "layers": layers,
        "left": [{"layer": layer.name, "reason": layer.refusal} for layer in bench.layers if layer.refusal],
        "mixes": [_point_record(point) for point in found.points],
        "coding": coding,
        "threads": torch.get_num_threads(),
    }


def _layer_record(item: LayerSensitivity, form_name: str) -> dict[str, Any]:
    form = item.form(form_name)
    return {
        "layer": item.layer.name,
        "form": form_name,
        "bits": form.form.bits,
        "bytes_before": item.layer.bytes,
        "bytes_after": form.bytes,
        "error": form.error,
        "cosine_alone": form.answers.cosine,
        "seconds_before": form.seconds_float,
        "seconds_after": form.seconds,
    }


def _point_record(point: Point) -> dict[str, Any]:
    return {
        "mix": point.name,
        "bytes": point.bytes,
        "cosine": point.answers.cosine,
        "agreement": point.answers.agreement,
        "speedup": point.speedup,
        "gate": point.reason or "passes",
    }


def _view(
    bench: ModelBench, found: Found, options: QuantizationOptions, weights: Mapping[str, CompressedWeight]
) -> QuantizationView:
    drawn = {
        item.layer.name: tuple(
            histogram(name, matrix(parameter), weights.get(name))
            for name, parameter in bench.form_weights.matrices(item.layer.name)
        )
        for item in found.layers
    }
    left = tuple(
        left_layer(layer.name, layer.kind, layer.shapes, layer.bytes, layer.refusal)
        for layer in bench.layers
        if layer.refusal
    )
    gate = {name: getattr(options, name) for name in ("min_agreement", "min_cosine", "max_metric_drop")}
    return view_of(found, left, drawn, bench.reference.rows, gate)
