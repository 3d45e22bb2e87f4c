"""A model with compressed layers in the place of its own."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch

from optimizers.plan import Refusal
from optimizers.quantization.compressed import CompressedWeight
from optimizers.quantization.modules.replace import replaced

Activations = str | Mapping[str, str]
"""How layers take their inputs: one word for all, or by layer ("dynamic" where it is not named)."""


def assembled(
    model: torch.nn.Module,
    weights: Mapping[str, CompressedWeight],
    activations: Activations = "dynamic",
    chosen: Mapping[str, str] | None = None,
) -> torch.nn.Module | Refusal:
    """Return a copy of the model, in eval mode, in which exactly the named weights are compressed.

    weights: by parameter name.    chosen: kinds of products by parameter name, where not the first that fits.
    Layers that a model uses twice, or under two names, stay one layer. Refuses with the layer's name and the reason.
    """
    replacements: dict[int, Any] = {}
    for layer, own in by_layer(weights).items():
        module = model.get_submodule(layer)
        how = activations if isinstance(activations, str) else activations.get(layer, "dynamic")
        picked = {name.rpartition(".")[2]: kind for name, kind in (chosen or {}).items() if _layer_of(name) == layer}
        found = replaced(module, own, how, picked)
        if isinstance(found, Refusal):
            return Refusal(found.optimizer, f"{layer or 'the model'}: {found.reason}")
        replacements[id(module)] = found
    # deepcopy takes what the memo has for a module, so the float weights of compressed layers are never copied
    copied: torch.nn.Module = replacements.get(id(model)) or copy.deepcopy(model, replacements)
    # for inference: a parameter that asks for gradients would make quantized layers refuse their inputs
    return copied.eval().requires_grad_(False)


def by_layer(weights: Mapping[str, CompressedWeight]) -> dict[str, dict[str, CompressedWeight]]:
    """Return layer -> {its own name of the parameter: weight}."""
    found: dict[str, dict[str, CompressedWeight]] = {}
    for name, weight in weights.items():
        found.setdefault(_layer_of(name), {})[name.rpartition(".")[2]] = weight
    return found


def _layer_of(parameter: str) -> str:
    return parameter.rpartition(".")[0]
