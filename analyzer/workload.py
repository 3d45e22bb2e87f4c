"""What a user gives to be profiled: a model, its inputs, and how one step runs."""

from __future__ import annotations

import hashlib
import importlib.util
import random
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils import _pytree as pytree

from analyzer.errors import WorkloadError
from analyzer.reference import WorkloadReference as WorkloadReference

Arguments = tuple[tuple[Any, ...], dict[str, Any]]
Loss = Callable[[Any, Arguments], torch.Tensor]


@dataclass(slots=True)
class Workload:
    """A model with its inputs; a training step when `loss` and `optimizer` are given.

    inputs:      `inputs(seed) -> (args, kwargs)`, or a plain tuple of tensors, whose floating
                 tensors are then redrawn for every seed but 0 (their own elements, shuffled).
    loss:        `loss(output, batch) -> scalar tensor`; batch is the (args, kwargs) of this step.
    optimizer:   a torch.optim.Optimizer over the model's parameters.
    step:        the user's own step, data loading included: `step(model, batch) -> tensor or tree of tensors`;
                 it replaces forward, loss, backward and optimizer.
    evaluate:    `evaluate(model) -> {metric: value}`, higher is better.
    calibration: seeds from which calibration inputs are drawn.
    device:      where model and inputs are moved before the first step; None leaves them.

    Without a loss the model is put into eval mode and runs under no_grad; with one, into train mode.
    """

    model: torch.nn.Module
    inputs: Callable[[int], Arguments] | tuple[torch.Tensor, ...]
    loss: Loss | None = None
    optimizer: torch.optim.Optimizer | None = None
    step: Callable[[torch.nn.Module, Arguments], Any] | None = None
    evaluate: Callable[[torch.nn.Module], Mapping[str, float]] | None = None
    calibration: tuple[int, ...] = ()
    device: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.model, torch.nn.Module):
            raise WorkloadError(f"Workload.model is a {type(self.model).__name__}; give a torch.nn.Module")
        if not callable(self.inputs) and not isinstance(self.inputs, tuple):
            raise WorkloadError(
                f"Workload.inputs is a {type(self.inputs).__name__}; give a function of the seed or a tuple of tensors"
            )
        if (self.loss is None) != (self.optimizer is None):
            given, missing = ("loss", "optimizer") if self.optimizer is None else ("optimizer", "loss")
            raise WorkloadError(f"Workload has a {given} but no {missing}; a training step needs both")

    @property
    def training(self) -> bool:
        """Return whether a step trains (has a loss and an optimizer)."""
        return self.optimizer is not None

    def batch(self, seed: int) -> Arguments:
        """Return (args, kwargs) for `seed`, on the workload's device.

        Raises WorkloadError if the user's function raises or returns another shape of thing.
        """
        if isinstance(self.inputs, tuple):
            drawn: Any = (tuple(_redraw(item, seed) for item in self.inputs), {})
        else:
            try:
                drawn = self.inputs(seed)
            except Exception as error:
                raise WorkloadError(
                    f"Workload.inputs({seed}) raised {type(error).__name__}: {error}; mend the function"
                ) from error
        if not (
            isinstance(drawn, tuple) and len(drawn) == 2 and isinstance(drawn[0], tuple) and isinstance(drawn[1], dict)
        ):
            raise WorkloadError(
                f"Workload.inputs({seed}) returned {_shape_of(drawn)}; return (args, kwargs), a tuple and a dict"
            )
        if self.device is None:
            return drawn
        return pytree.tree_map_only(torch.Tensor, lambda tensor: tensor.to(self.device), drawn)  # type: ignore[no-any-return]


def _shape_of(value: object) -> str:
    if isinstance(value, tuple):
        return "(" + ", ".join(type(item).__name__ for item in value) + ")"
    return f"a {type(value).__name__}"


def _redraw(tensor: torch.Tensor, seed: int) -> torch.Tensor:
    """Return `tensor` with its elements shuffled when it is floating and seed is not 0.

    Shuffling keeps the range, the infinities of a mask and the zeros of a sparse input.
    """
    if seed == 0 or not isinstance(tensor, torch.Tensor) or not tensor.is_floating_point():
        return tensor
    order = torch.randperm(tensor.numel(), generator=seeded(seed)).to(tensor.device)
    return tensor.reshape(-1)[order].reshape(tensor.shape)


def seeded(seed: int) -> torch.Generator:
    """Return a CPU generator that draws the same numbers for the same seed."""
    generator = torch.Generator()
    generator.manual_seed(seed)
    return generator


def seed_everything(seed: int) -> None:
    """Seed Python's, numpy's and torch's global generators."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def load_workload(name: str, seed: int = 0, device: str = "cpu") -> tuple[Workload, WorkloadReference]:
    """Return the workload named `path/to/file.py:function`, built after seeding, and its reference.

    Raises WorkloadError for a missing file or function, a factory that raises, or a value that is no Workload.
    """
    path_text, separator, function = name.rpartition(":")
    if not separator or not path_text or not function:
        raise WorkloadError(f"{name!r} names no workload; write path/to/file.py:function")
    path = Path(path_text).expanduser().resolve()
    if not path.is_file():
        raise WorkloadError(f"no file {path_text!r}; give the path of a Python file that defines {function}()")
    source = path.read_bytes()
    module = _import_file(path)
    factory = getattr(module, function, None)
    if not callable(factory):
        known = ", ".join(_factories(module)) or "none"
        raise WorkloadError(f"{path.name} has no function {function!r}; it has: {known}")
    seed_everything(seed)
    try:
        workload = factory()
    except WorkloadError:
        raise
    except Exception as error:
        raise WorkloadError(f"{path.name}:{function}() raised {type(error).__name__}: {error}; mend it") from error
    if not isinstance(workload, Workload):
        raise WorkloadError(
            f"{path.name}:{function}() returned a {type(workload).__name__}; return an analyzer.workload.Workload"
        )
    prepare(workload, device)
    reference = WorkloadReference(
        path=str(path),
        function=function,
        source_hash=hashlib.sha256(source).hexdigest(),
        state_hash=state_hash(workload.model),
        seed=seed,
        device=device,
    )
    return workload, reference


def rebuild_workload(reference: WorkloadReference) -> Workload:
    """Return the referenced workload, built afresh.

    Raises WorkloadError when the file's source or the model's initial state is no longer the same.
    """
    workload, found = load_workload(f"{reference.path}:{reference.function}", reference.seed, reference.device)
    if found.source_hash != reference.source_hash:
        raise WorkloadError(f"{reference.path} has changed since {reference.name} was captured; profile it again")
    if found.state_hash != reference.state_hash:
        raise WorkloadError(
            f"{reference.name} builds another initial state than when it was captured; "
            "make it depend on the seed alone, or profile it again"
        )
    return workload


def prepare(workload: Workload, device: str = "cpu") -> None:
    """Move the model to `device` and put it into train or eval mode."""
    workload.device = device if workload.device is None else workload.device
    try:
        workload.model.to(workload.device)
    except (RuntimeError, AssertionError) as error:
        raise WorkloadError(f"cannot move the model to device {workload.device!r}: {error}") from error
    workload.model.train(workload.training)


def state_hash(model: torch.nn.Module) -> str:
    """Return the SHA-256 of every parameter and buffer: names, dtypes, shapes and bytes."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        if not isinstance(tensor, torch.Tensor):
            digest.update(f"{name}={tensor!r}".encode())
            continue
        digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)}".encode())
        data = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(data.view(torch.uint8).numpy().tobytes() if data.numel() else b"")
    return digest.hexdigest()


def _factories(module: object) -> list[str]:
    return sorted(
        name
        for name, value in vars(module).items()
        if callable(value)
        and getattr(value, "__module__", None) == getattr(module, "__name__", "")
        and not isinstance(value, type)
        and not name.startswith("_")
    )


def _import_file(path: Path) -> object:
    """Return the module of `path`, imported under a name of its own; its folder is importable meanwhile."""
    name = f"hotbench_workload_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise WorkloadError(f"{path} is not a Python file; a workload lives in a .py file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        sys.modules.pop(name, None)
        raise WorkloadError(f"{path.name} cannot be imported: {type(error).__name__}: {error}; mend it") from error
    return module


@dataclass(slots=True)
class Stepper:
    """Runs steps of a workload, one after the other, on one batch or on fresh ones.

    The first batch is drawn at construction, so that drawing is not part of a step's time
    (a workload with its own `step` loads data inside it).
    """

    workload: Workload
    seed: int = 0
    batch: Arguments = field(init=False)

    def __post_init__(self) -> None:
        self.batch = self.workload.batch(self.seed)

    def redraw(self, seed: int) -> None:
        """Use the inputs of `seed` from now on."""
        self.seed = seed
        self.batch = self.workload.batch(seed)

    def step(self) -> Any:
        """Run one step; return the outputs (inference) or the loss (training).

        Raises WorkloadError with the user's own error in one line.
        """
        try:
            return self._step()
        except WorkloadError:
            raise
        except Exception as error:
            raise WorkloadError(f"the workload's step raised {type(error).__name__}: {error}") from error

    def _step(self) -> Any:
        workload = self.workload
        if workload.step is not None:
            return workload.step(workload.model, self.batch)
        args, kwargs = self.batch
        if workload.optimizer is None or workload.loss is None:
            with torch.no_grad():
                return workload.model(*args, **kwargs)
        workload.optimizer.zero_grad(set_to_none=True)
        loss = workload.loss(workload.model(*args, **kwargs), self.batch)
        loss.backward()  # type: ignore[no-untyped-call]
        workload.optimizer.step()
        return loss.detach()


def items_per_step(batch: Arguments) -> int:
    """Return the size of the first axis of the first tensor among the inputs; 1 when there is none."""
    for leaf in pytree.tree_leaves(batch):
        if isinstance(leaf, torch.Tensor) and leaf.dim() > 0:
            return int(leaf.shape[0])
    return 1
