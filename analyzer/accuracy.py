"""How far a candidate's outputs are from the baseline's on fresh inputs, and whether that is close enough.

Outputs cross from process to process in safetensors files: no pickle, the same bytes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch.utils import _pytree as pytree

from analyzer.agreement import agreements
from analyzer.closeness import GIVEN
from analyzer.closeness import Accuracy as Accuracy
from analyzer.errors import HotbenchError, WorkloadError
from analyzer.workload import Stepper, seed_everything, seeded

TOLERANCES = {
    torch.float64: (1e-10, "float64 outputs: the order of summation may change, about 1e5 roundings"),
    torch.complex128: (1e-10, "complex128 outputs: the order of summation may change, about 1e5 roundings"),
    torch.float32: (1e-5, "float32 outputs: the order of summation may change, about 100 roundings"),
    torch.complex64: (1e-5, "complex64 outputs: the order of summation may change, about 100 roundings"),
    torch.float16: (4e-3, "float16 outputs: 4 roundings of 2^-10"),
    torch.bfloat16: (3.2e-2, "bfloat16 outputs: 4 roundings of 2^-7"),
}
SENSITIVITY_FACTOR = 4
SENSITIVITY_CAP = 100
"""However sensitive a workload is, its tolerance grows to 100 times that of its dtype at most."""
EXACT = (0.0, "integer and boolean outputs must be equal")


def collect_outputs(stepper: Stepper, seeds: Sequence[int], path: Path) -> int:
    """Write what the workload computes from each seed's inputs to `path` and return the number of tensors.

    Inference: every tensor of the result, for each seed. Training: one step a seed from the present state,
    its losses, then all parameters. Random numbers are seeded alike before every step.
    """
    found: dict[str, torch.Tensor] = {}
    for seed in seeds:
        seed_everything(seed)
        stepper.redraw(seed)
        for position, tensor in enumerate(_tensors(stepper.step())):
            found[f"outputs/{position}/{seed}"] = tensor
    if not found:
        raise WorkloadError("a step returns no tensor and no number; return the outputs, so that they can be compared")
    if stepper.workload.training:
        for name, parameter in stepper.workload.model.named_parameters():
            found[f"parameters/{name}"] = _portable(parameter)
    save_file(found, path)
    return len(found)


def nudge_parameters(model: torch.nn.Module) -> None:
    """Move every floating parameter by one unit in the last place, up or down at random (the same each time)."""
    generator = seeded(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.is_floating_point():
                up = torch.rand(parameter.shape, generator=generator).to(parameter.device) < 0.5
                limit = torch.where(up, torch.inf, -torch.inf).to(parameter.dtype)
                parameter.copy_(torch.nextafter(parameter, limit))


def _tensors(result: Any) -> Iterator[torch.Tensor]:
    for leaf in pytree.tree_leaves(result):
        if isinstance(leaf, torch.Tensor):
            yield _portable(leaf)
        elif isinstance(leaf, int | float):
            yield torch.tensor(leaf)


def _portable(tensor: torch.Tensor) -> torch.Tensor:
    tensor = tensor.detach()
    if tensor.is_quantized:
        tensor = tensor.dequantize()
    if tensor.layout != torch.strided:
        tensor = tensor.to_dense()
    # Cloned: a model may write its next outputs into the same memory.
    return tensor.cpu().resolve_conj().resolve_neg().clone(memory_format=torch.contiguous_format)


@dataclass(slots=True)
class _Gap:
    """Sums over all tensors of one output; a is the candidate's, b the baseline's."""

    max_abs: float = 0.0
    largest: float = 0.0
    dot: float = 0.0
    squares_a: float = 0.0
    squares_b: float = 0.0
    ranked: list[tuple[torch.Tensor, torch.Tensor]] = field(default_factory=list)
    special_values_match: bool = True
    dtypes: set[torch.dtype] = field(default_factory=set)

    def add(self, a: torch.Tensor, b: torch.Tensor, ranked: bool) -> None:
        self.dtypes.add(b.dtype)
        if ranked and b.dim() > 0 and b.shape[-1] >= 2 and b.is_floating_point() and b.numel():
            self.ranked.append((a, b))
        wide_a, wide_b = _wide(a), _wide(b)
        finite = torch.isfinite(wide_a) & torch.isfinite(wide_b)
        special_a, special_b = wide_a[~finite], wide_b[~finite]
        same = (special_a == special_b) | (torch.isnan(special_a) & torch.isnan(special_b))
        self.special_values_match &= bool(same.all())
        wide_a, wide_b = wide_a[finite], wide_b[finite]
        if wide_b.numel() == 0:
            return
        self.max_abs = max(self.max_abs, float((wide_a - wide_b).abs().max()))
        self.largest = max(self.largest, float(wide_b.abs().max()))
        self.dot += float(wide_a @ wide_b)
        self.squares_a += float(wide_a @ wide_a)
        self.squares_b += float(wide_b @ wide_b)

    @property
    def max_rel(self) -> float:
        if self.max_abs == 0:
            return 0.0
        return self.max_abs / self.largest if self.largest else math.inf

    @property
    def cosine(self) -> float:
        if self.squares_a == 0 or self.squares_b == 0:
            return 1.0 if self.squares_a == self.squares_b else 0.0
        return max(-1.0, min(1.0, self.dot / math.sqrt(self.squares_a * self.squares_b)))


def _wide(tensor: torch.Tensor) -> torch.Tensor:
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor)
    return tensor.to(torch.float64).reshape(-1)


def compare_outputs(
    baseline: Path,
    candidate: Path,
    *,
    inputs: int,
    max_error: float | None = None,
    sensitivity: float = 0.0,
    metric_before: Mapping[str, float] | None = None,
    metric_after: Mapping[str, float] | None = None,
) -> Accuracy:
    """Return how far the outputs in file `candidate` are from those in `baseline`, both from `collect_outputs`.

    `max_error` replaces the tolerance of the outputs' dtype. `sensitivity` is the largest relative error that one
    rounding of the initial parameters makes in the baseline itself; a tolerance below it would ask for the same
    order of operations, which no optimization keeps. Raises HotbenchError for a file that cannot be read.
    """
    metrics = dict(metric_before or {}), dict(metric_after or {})
    try:
        with safe_open(baseline, "pt") as file_b, safe_open(candidate, "pt") as file_a:
            mismatch, gaps = _gaps(file_a, file_b)
    except (OSError, SafetensorError) as error:
        raise HotbenchError(f"cannot read the outputs of a variant: {error}; run the experiment again") from error
    if mismatch:
        tolerance = (0.0 if max_error is None else max_error, "the outputs cannot be compared")
        return Accuracy(math.inf, math.inf, 0.0, None, inputs, *tolerance, *metrics, False, mismatch)
    rows = [agreements(*zip(*gap.ranked, strict=True))[:2] for gap in gaps if gap.ranked]
    ranked = sum(count for _, count in rows)
    return Accuracy(
        max(gap.max_abs for gap in gaps),
        max(gap.max_rel for gap in gaps),
        min(gap.cosine for gap in gaps),
        sum(equal for equal, _ in rows) / ranked if ranked else None,
        inputs,
        *_tolerance({dtype for gap in gaps for dtype in gap.dtypes}, max_error, sensitivity),
        *metrics,
        all(gap.special_values_match for gap in gaps),
    )


def _tolerance(dtypes: set[torch.dtype], max_error: float | None, sensitivity: float) -> tuple[float, str]:
    if max_error is not None:
        return max_error, GIVEN
    tolerance, reason = max((TOLERANCES.get(dtype, EXACT) for dtype in dtypes), default=EXACT)
    widest = min(SENSITIVITY_FACTOR * sensitivity, SENSITIVITY_CAP * tolerance)
    if widest <= tolerance:
        return tolerance, reason
    return widest, f"{SENSITIVITY_FACTOR} times what one rounding of the parameters changes in the baseline itself"


def _gaps(file_a: Any, file_b: Any) -> tuple[str, list[_Gap]]:
    names_a, names_b = sorted(file_a.keys()), sorted(file_b.keys())
    if names_a != names_b:
        return _name_mismatch(names_a, names_b), []
    training = any(name.startswith("parameters/") for name in names_b)
    gaps: dict[str, _Gap] = {}
    for name in names_b:
        a, b = file_a.get_tensor(name), file_b.get_tensor(name)
        if a.shape != b.shape:
            return f"{name} has shape {tuple(a.shape)} where the baseline's has {tuple(b.shape)}", []
        kind, rest = name.split("/", 1)
        group = kind if training else rest.split("/")[0]
        gaps.setdefault(group, _Gap()).add(a, b, ranked=not training)
    return "", list(gaps.values())


def _name_mismatch(names_a: Sequence[str], names_b: Sequence[str]) -> str:
    missing, extra = sorted(set(names_b) - set(names_a)), sorted(set(names_a) - set(names_b))
    if missing:
        return f"the candidate gives no {missing[0]}, which the baseline gives ({len(missing)} such)"
    return f"the candidate gives {extra[0]}, which the baseline does not give ({len(extra)} such)"
