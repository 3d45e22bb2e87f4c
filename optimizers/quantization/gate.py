"""What a compressed model must keep, and how far its answers are from those of the model as it was."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch.utils import _pytree as pytree

from analyzer.agreement import agreements
from analyzer.workload import Arguments
from optimizers.quantization.batches import padding_mask
from optimizers.quantization.errors import CompressionError

Evaluate = Callable[[torch.nn.Module], Mapping[str, float]]


@dataclass(frozen=True)
class Gate:
    """The least that is kept; None asks for nothing. A compressed model that does not pass is refused.

    min_agreement:   share of equal arg-max along an output's last axis; of outputs that are unit vectors
                     (embeddings, [rows, size]), of equal nearest neighbours among all rows.
    min_cosine:      cosine similarity of every output with the float model's.
    max_metric_drop: by how much each metric of `evaluate(model) -> {name: value}` may fall (higher is better).
    """

    min_agreement: float | None = None
    min_cosine: float | None = None
    max_metric_drop: float | None = None

    def __post_init__(self) -> None:
        for name, low in (("min_agreement", 0.0), ("min_cosine", -1.0)):
            value = getattr(self, name)
            if value is not None and not (_number(value) and low <= value <= 1):
                raise CompressionError(f"Gate.{name} is {value!r}; give a number from {low:g} to 1, or None")
        drop = self.max_metric_drop
        if drop is not None and not (_number(drop) and drop >= 0):
            raise CompressionError(f"Gate.max_metric_drop is {drop!r}; give a number of 0 or more, or None")

    @property
    def needs_inputs(self) -> bool:
        """Return whether outputs are compared."""
        return self.min_agreement is not None or self.min_cosine is not None

    def failures(self, agreement: Agreement) -> tuple[str, ...]:
        """Return in words each figure that does not pass; one that is NaN, or that nothing measured, does not."""
        return tuple(self._failures(agreement))

    def reason(self, agreement: Agreement) -> str:
        """Return why the gate does not let it through, with the figures, in one line; "" if it does."""
        return "; ".join(self.failures(agreement))

    def _failures(self, found: Agreement) -> Iterator[str]:
        for name, least in (("agreement", self.min_agreement), ("cosine", self.min_cosine)):
            value = getattr(found, name)
            if least is not None and not (value is not None and value >= least):
                yield f"{name} {_shown(value)}, at least {least:g} is asked for"
        if self.max_metric_drop is not None:
            for name, before in sorted(found.metric_before.items()):
                after = found.metric_after.get(name, math.nan)
                if not after >= before - self.max_metric_drop:
                    yield f"{name} {after:.6g} after {before:.6g}, a drop of {self.max_metric_drop:g} is allowed"


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far answers are from the float model's, measured. None where outputs have no such figure.

    agreement: share of equal arg-max, or of equal nearest neighbours where `of` says so.
    cosine:    of the output that is farthest off.    max_rel: max |a - b| / max |b|.
    rows:      of outputs that agreement was counted over.
    metric_before, metric_after: of the user's `evaluate`.
    """

    agreement: float | None
    cosine: float | None
    max_rel: float | None
    rows: int = 0
    of: str = "arg-max"
    metric_before: Mapping[str, float] = field(default_factory=dict)
    metric_after: Mapping[str, float] = field(default_factory=dict)

    def record(self) -> dict[str, Any]:
        """Return plain JSON values; what is not finite is None."""
        return {key: _finite(value) for key, value in asdict(self).items()}


Outputs = tuple[tuple[torch.Tensor, ...], ...]
"""Of each batch the floating outputs of the model, padding left out."""


def reference_outputs(
    model: torch.nn.Module, batches: Sequence[Arguments], mask: str | None = "attention_mask"
) -> Outputs:
    """Return what the model computes from each batch, in eval mode; rows where `mask` is 0 are left out.

    Raises CompressionError if the model does, or gives no floating tensor.
    """
    with evaluating(model), torch.no_grad():
        found = tuple(_outputs(model, batch, mask) for batch in batches)
    if any(not outputs for outputs in found):
        raise CompressionError("the model returns no floating tensor to compare; return its outputs")
    return found


def measure(
    model: torch.nn.Module,
    reference: Outputs,
    batches: Sequence[Arguments],
    evaluate: Evaluate | None = None,
    metric_before: Mapping[str, float] | None = None,
    mask: str | None = "attention_mask",
) -> Agreement:
    """Return how far the model's answers to the batches are from the reference outputs, and its metrics."""
    after = metrics(model, evaluate)
    before = dict(metric_before or {})
    if not batches:
        return Agreement(None, None, None, metric_before=before, metric_after=after)
    positions = list(zip(*reference_outputs(model, batches, mask), strict=True))
    references = list(zip(*reference, strict=True))
    if len(positions) != len(references):
        raise CompressionError(f"the model gives {len(positions)} outputs, {len(references)} before; compare the same")
    gaps = [_gap(found, wanted) for found, wanted in zip(positions, references, strict=True)]
    counted = [agreements(found, wanted) for found, wanted in zip(positions, references, strict=True)]
    rows = sum(total for _, total, _ in counted)
    agreement = sum(equal for equal, _, _ in counted) / rows if rows else None
    of = next((of for _, total, of in counted if total), "arg-max")
    return Agreement(agreement, *_worst(gaps), rows, of, before, after)


def metrics(model: torch.nn.Module, evaluate: Evaluate | None) -> dict[str, float]:
    """Return the user's metrics of a model in eval mode. Raises CompressionError if `evaluate` fails."""
    if evaluate is None:
        return {}
    try:
        with evaluating(model), torch.no_grad():
            found = evaluate(model)
        return {str(name): float(value) for name, value in found.items()}
    except Exception as error:
        raise CompressionError(
            f"evaluate(model) raised {type(error).__name__}: {error}; it takes the model and returns {{name: number}}"
        ) from error


@contextmanager
def evaluating(model: torch.nn.Module) -> Iterator[None]:
    """Have the model in eval mode, then every part of it as it was."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _outputs(model: torch.nn.Module, batch: Arguments, mask: str | None) -> tuple[torch.Tensor, ...]:
    try:
        result = model(*batch[0], **batch[1])
    except Exception as error:
        text = f"the model raised {type(error).__name__}: {error}; give inputs that it takes"
        raise CompressionError(text) from error
    kept = padding_mask(model, batch, mask)
    leaves = (leaf for leaf in pytree.tree_leaves(result) if isinstance(leaf, torch.Tensor))
    return tuple(_unpadded(leaf, kept) for leaf in leaves if leaf.is_floating_point())


def _unpadded(output: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    if mask is not None and output.dim() >= 3 and output.shape[:2] == mask.shape:
        return output[mask]
    return output.detach().clone()


def _worst(gaps: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Return the least cosine and the largest error; NaN where one is (min and max of Python may drop it)."""
    if any(math.isnan(cosine) for cosine, _ in gaps):
        return math.nan, math.nan
    return min(cosine for cosine, _ in gaps), max(error for _, error in gaps)


def _gap(found: Sequence[torch.Tensor], wanted: Sequence[torch.Tensor]) -> tuple[float, float]:
    """Return cosine and largest relative error of one output over all batches; NaN where one is not finite."""
    dot = square_found = square_wanted = largest = farthest = 0.0
    for a, b in zip(found, wanted, strict=True):
        if a.shape != b.shape:
            raise CompressionError(f"an output is {list(a.shape)}, {list(b.shape)} before; compare the same inputs")
        wide_a, wide_b = a.double().reshape(-1), b.double().reshape(-1)
        special = ~torch.isfinite(wide_b)
        # what was infinite (a mask, say) or NaN must still be; nothing else may become so
        if not torch.equal(torch.nan_to_num(wide_a[special]), torch.nan_to_num(wide_b[special])):
            return math.nan, math.nan
        wide_a, wide_b = wide_a[~special], wide_b[~special]
        if not bool(torch.isfinite(wide_a).all()):
            return math.nan, math.nan
        if wide_b.numel() == 0:
            continue
        dot += float(wide_a @ wide_b)
        square_found += float(wide_a @ wide_a)
        square_wanted += float(wide_b @ wide_b)
        farthest = max(farthest, float((wide_a - wide_b).abs().max()))
        largest = max(largest, float(wide_b.abs().max()))
    if square_found == 0 or square_wanted == 0:
        return (1.0 if square_found == square_wanted else 0.0), (0.0 if farthest == 0 else math.inf)
    return min(1.0, dot / math.sqrt(square_found * square_wanted)), farthest / largest


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return {key: _finite(item) for key, item in value.items()} if isinstance(value, dict) else value


def _shown(value: float | None) -> str:
    return "was not measured" if value is None else f"{value:.6g}"
