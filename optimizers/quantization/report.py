"""What became of each layer, and a model that was compressed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from optimizers.quantization.compressed import CompressedWeight
from optimizers.quantization.gate import Agreement


@dataclass(frozen=True, slots=True)
class LayerReport:
    """One weight.

    name:         of the parameter.    layer, kind: of the layer that it belongs to.
    method:       the compressed form ("int8", "codebook", …), or "float" where it was left.
    bits:         of a stored weight.  group: columns that share a codebook, or None.
    bytes_before, bytes_after: of the weight, packed, without entropy coding; 0 after for one stored with another.
    error:        |compressed - weight| / |weight|.
    output_error: the same of the layer's outputs on the calibration inputs; None where these were not looked at.
    kernel:       what computes with it.
    tied_to:      the parameter whose values it shares; "" if none.
    refusal:      why it was left as it is; "" if it was not.
    """

    name: str
    layer: str
    kind: str
    method: str
    bits: int
    group: int | None
    bytes_before: int
    bytes_after: int
    error: float
    output_error: float | None = None
    kernel: str = "torch float32"
    tied_to: str = ""
    refusal: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Compressed:
    """A compressed model. The model that was given is as it was.

    model:    ready to call, in eval mode.
    weights:  the compressed form of each parameter, by name; parameters that are tied share one.
    report:   every weight that a rule named.
    accuracy: how far its answers are from the float model's, measured on the inputs that were given.
    recipe:   rules, process, gate and what came of them: plain JSON.
    activations: how each layer's inputs are taken, by layer: "dynamic" or "float".
    notes:    what was measured on what, in words.
    """

    model: torch.nn.Module = field(repr=False)
    weights: Mapping[str, CompressedWeight] = field(repr=False)
    report: tuple[LayerReport, ...]
    accuracy: Agreement
    recipe: Mapping[str, Any] = field(repr=False)
    activations: Mapping[str, str] = field(repr=False)
    bytes_before: int
    bytes_after: int
    notes: tuple[str, ...] = ()

    @property
    def refusals(self) -> tuple[LayerReport, ...]:
        """Return the weights that rules named but that were left as they are."""
        return tuple(layer for layer in self.report if layer.refusal)

    def summary(self) -> str:
        """Return in one line what was compressed, how small it became and how near it stayed."""
        done = [layer for layer in self.report if not layer.refusal]
        ratio = self.bytes_before / max(self.bytes_after, 1)
        near = [
            f"{name} {value:.4g}"
            for name, value in (("agreement", self.accuracy.agreement), ("cosine", self.accuracy.cosine))
            if value is not None
        ]
        left = f", {len(self.refusals)} left as they are" if self.refusals else ""
        return "; ".join([f"{len(done)} weights compressed{left}, {ratio:.2f}x smaller", *near])


def layer_records(report: tuple[LayerReport, ...]) -> list[dict[str, Any]]:
    """Return the report as plain JSON values."""
    return [asdict(layer) for layer in report]
