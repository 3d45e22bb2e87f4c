"""A plan as a file: the itinerary, the model it is for, and what it was measured to do."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import torch

from analyzer.errors import RecordError
from analyzer.record import dump_json, from_plain, to_plain
from optimizers.swap.engine import Engine
from optimizers.swap.errors import SwapError
from optimizers.swap.itinerary import Itinerary
from optimizers.swap.swap_file import swap_folder

FORMAT_VERSION = 1


@dataclass(frozen=True, slots=True)
class PlanFile:
    """What is needed to carry a plan out in another process, and the figures that speak for it.

    model: hash of the model's modules and parameter shapes.    compact: as fit was given it.
    """

    model: str
    budget_bytes: int
    itinerary: Itinerary
    peak_bytes_before: int
    peak_bytes_predicted: int
    peak_bytes_measured: int
    torch_version: str
    compact: bool = False
    format_version: int = FORMAT_VERSION


def model_hash(model: torch.nn.Module) -> str:
    """Return a hash of what the plan depends on: the modules in order, and each parameter's shape and dtype."""
    digest = hashlib.sha256()
    for name, module in model.named_modules():
        digest.update(f"{name}:{type(module).__qualname__}:{module.extra_repr()}\n".encode())
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)}\n".encode())
    return digest.hexdigest()


def encode_plan(plan: PlanFile) -> bytes:
    """Return the plan as JSON."""
    return dump_json(to_plain(plan))


def decode_plan(content: bytes, where: str) -> PlanFile:
    """Return the plan that `encode_plan` wrote. Raises RecordError where it is none, or of a newer format."""
    try:
        plan = from_plain(PlanFile, json.loads(content))
    except (ValueError, RecordError) as error:
        raise RecordError(f"{where} is no swap plan ({error}); fit the model again") from error
    if plan.format_version > FORMAT_VERSION:
        raise RecordError(f"{where} has format {plan.format_version}; this version reads up to {FORMAT_VERSION}")
    return plan


def apply_plan(
    plan: PlanFile | str | Path,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer | None = None,
    folder: str | Path | None = None,
) -> Engine:
    """Return the engine that from now on carries the plan out in each training step of the model.

    folder: where it swaps to; by default a temporary folder on a disk.
    Raises SwapError when the model is not the one that was planned for, RecordError for a file that is no plan.
    """
    if not isinstance(plan, PlanFile):
        path = Path(plan)
        try:
            plan = decode_plan(path.read_bytes(), str(path))
        except OSError as error:
            raise RecordError(f"cannot read the plan {path}: {error.strerror}") from error
    if model_hash(model) != plan.model:
        raise SwapError("the plan is for another model (modules or parameter shapes differ); fit this one")
    if plan.itinerary.state and optimizer is None:
        raise SwapError("the plan moves the optimizer's state, but no optimizer is given; give it, too")
    return Engine(model, plan.itinerary, swap_folder(folder), optimizer, plan.compact)
