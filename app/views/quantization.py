"""What the page shows of compression: what became of each layer, and bits to choose for the layers of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from analyzer.errors import HotbenchError, RecordError

if TYPE_CHECKING:
    from analyzer.run import Run
    from optimizers.plan import Candidate
    from optimizers.quantization.views import LayerView, QuantizationView

NAME = "quantization"
AUTO = "auto"


@dataclass(frozen=True, slots=True)
class QuantizationProof:
    """A candidate's compression: what a page draws, and what was measured as it was found (plain values, by name)."""

    experiment: str
    view: QuantizationView
    decisions: dict[str, Any]

    def layer(self, name: str) -> LayerView | None:
        """Return the layer of that name, None where there is none."""
        return next((layer for layer in self.view.layers if layer.name == name), None)


@dataclass(frozen=True, slots=True)
class BitsRow:
    """One layer of a run in the editor. bits: as given ("prune" and "low-rank" too), "auto" where they are to be found.

    bytes_after: predicted, of the smallest form that would be tried. found: the form that the newest experiment of the
    run gave it; "" where there is none. loss: 1 - cosine of the answers with this layer alone at these bits (of auto,
    in the form found), as that experiment measured it; None where it did not.
    """

    name: str
    kind: str
    shapes: tuple[tuple[int, int], ...]
    bytes: int
    bits: str
    bytes_after: int
    found: str
    loss: float | None
    refusal: str


def quantization_proof(experiment: str, candidate: Candidate) -> QuantizationProof | None:
    """Return what a candidate keeps of its compression; None where it has none. Raises RecordError if damaged."""
    from optimizers.quantization.views import decode_view

    for applied in candidate.applied:
        content = applied.blobs.get("quantization_view.json")
        if applied.plan.optimizer == NAME and content is not None:
            return QuantizationProof(experiment, decode_view(content), dict(applied.decisions))
    return None


def bits_rows(run: Run, settings: Mapping[str, str], measured: QuantizationView | None = None) -> list[BitsRow] | str:
    """Return the layers of a run with the bits that the options give them; in words why there are none to choose for.

    settings: as on the command line, "quantization.layers" and others. measured: of an experiment of the same run.
    """
    from optimizers.quantization.options import QuantizationOptions
    from optimizers.quantization.run_layers import run_layers
    from optimizers.settings import read_options

    if run.training:
        return "The step trains: weights are compressed for inference."
    try:
        options = read_options([NAME], settings)[NAME]
    except HotbenchError as error:
        return str(error)
    assert isinstance(options, QuantizationOptions)
    rows = [_row(layer, options, measured) for layer in run_layers(run)]
    return rows or "The step reads no weights of two axes or more."


def _row(layer: Any, options: Any, measured: QuantizationView | None) -> BitsRow:
    from optimizers.quantization.forms import FLOAT
    from optimizers.quantization.predict import layer_bytes

    refusal = layer.refusal or (f"it has the weights of {layer.tied}, and takes its form" if layer.tied else "")
    forms = (FLOAT,) if layer.refusal else options.forms(layer.name, layer.kind)
    pinned = len(forms) == 1
    bits = forms[0].choice if pinned else AUTO
    known = next((item for item in measured.layers if item.name == layer.name), None) if measured is not None else None
    found = known.chosen if known is not None and known.forms else ""
    loss = _loss(known, forms[0].name if pinned else found)
    after = min(layer_bytes(layer, form) for form in forms)
    return BitsRow(layer.name, layer.kind, layer.shapes, layer.bytes, bits, after, found, loss, refusal)


def _loss(known: LayerView | None, form: str) -> float | None:
    forms = () if known is None else known.forms
    item = next((item for item in forms if item.name == form and not item.refusal), None)
    return None if item is None else max(0.0, 1.0 - item.cosine)


def layers_option(bits: Sequence[tuple[str, str]]) -> str:
    """Return the option "layers" of (name, bits) pairs: those at "auto" are left out; "*=8" where all have the same."""
    given = [(name, value) for name, value in bits if value != AUTO]
    if len(given) == len(bits) > 1 and len({value for _, value in given}) == 1:
        return f"*={given[0][1]}"
    return ", ".join(f"{name}={value}" for name, value in given)


def newest_view(candidates: Sequence[Candidate]) -> QuantizationView | None:
    """Return what the first of these candidates that was compressed keeps of it; damaged ones are passed over."""
    for candidate in candidates:
        try:
            proof = quantization_proof("", candidate)
        except RecordError:
            continue
        if proof is not None:
            return proof.view
    return None
