"""Ops of the forward that are repeated in the backward, with what they were given and the random state they met."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from optimizers.swap.errors import SwapError
from optimizers.swap.itinerary import OpToRepeat


@dataclass(frozen=True, slots=True)
class _Argument:
    """A tensor argument: how it lies in its storage; `tensor` where that was there before the forward."""

    storage: int
    dtype: torch.dtype
    shape: torch.Size
    strides: tuple[int, ...]
    offset: int
    tensor: torch.Tensor | None
    version: int


@dataclass(frozen=True, slots=True)
class RecordedOp:
    """An op as it was called. shape: of the leaves' nesting; None where they are the positional arguments."""

    plan: OpToRepeat
    func: Any
    leaves: tuple[Any, ...]
    shape: Any
    random_state: torch.Tensor | None
    grad_enabled: bool


class OpRecorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records the wanted ops of a forward, by their place among all. missed: why one of them is not what it was."""

    def __init__(self, wanted: Mapping[int, OpToRepeat]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.wanted = wanted
        self.count = 0
        self.recorded: dict[int, RecordedOp] = {}
        self.missed = ""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # No compiled model is swapped; torch's own guard against that would take longer than a small op.
        return False

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        plan = self.wanted.get(self.count)
        self.count += 1
        given = kwargs or {}
        if plan is not None:
            self._record(plan, func, args, given)
        return func(*args, **given)

    def _record(self, plan: OpToRepeat, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        leaves, shape = _flattened(args, kwargs)
        tensors = sum(isinstance(leaf, torch.Tensor) for leaf in leaves)
        if str(func) != plan.name or tensors != len(plan.arguments):
            self.missed = f"op {plan.index} is {func} where the plan has {plan.name}"
            return
        numbers = iter(plan.arguments)
        kept = tuple(
            _argument(leaf, next(numbers), plan.known) if isinstance(leaf, torch.Tensor) else leaf for leaf in leaves
        )
        state = torch.get_rng_state() if plan.random else None
        self.recorded[plan.index] = RecordedOp(plan, func, kept, shape, state, torch.is_grad_enabled())


_NOTHING: dict[str, Any] = {}


def _flattened(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Sequence[Any], Any]:
    """Return the leaves and their nesting; None for the usual call, for which pytree would take longer than the op."""
    if kwargs or any(isinstance(argument, tuple | list | dict) for argument in args):
        leaves, shape = pytree.tree_flatten((args, kwargs))
        return leaves, shape
    return args, None


def _argument(tensor: torch.Tensor, storage: int, known: Sequence[int]) -> _Argument:
    return _Argument(
        storage,
        tensor.dtype,
        tensor.shape,
        tensor.stride(),
        int(tensor.storage_offset()),
        # Not detached: below autograd a new tensor would count versions of its own.
        tensor if storage in known else None,
        tensor._version if storage in known else 0,
    )


def repeat(ops: Sequence[RecordedOp], target: int, find: Callable[[int], torch.UntypedStorage]) -> torch.UntypedStorage:
    """Return the storage `target` that the ops make; `find` gives the storages of activations that they read.

    The global generator is left as it is. Raises SwapError where something they read was changed since.
    """
    made: dict[int, torch.UntypedStorage] = {}
    below_autograd = torch._C._AutoDispatchBelowAutograd
    with below_autograd(), torch.enable_grad(), torch.amp.autocast_mode.autocast("cpu", enabled=False):
        for op in ops:
            # Some ops look at it and leave out what no backward would ask for.
            torch.set_grad_enabled(op.grad_enabled)
            before = None
            if op.random_state is not None:
                before = torch.get_rng_state()
                torch.set_rng_state(op.random_state)
            leaves = [_tensor(leaf, made, find) if isinstance(leaf, _Argument) else leaf for leaf in op.leaves]
            args, kwargs = (leaves, _NOTHING) if op.shape is None else pytree.tree_unflatten(leaves, op.shape)
            result = op.func(*args, **kwargs)
            if before is not None:
                torch.set_rng_state(before)
            for number, storage in _results(op.plan, result):
                made.setdefault(number, storage)
    return made[target]


def _tensor(
    argument: _Argument, made: Mapping[int, torch.UntypedStorage], find: Callable[[int], torch.UntypedStorage]
) -> torch.Tensor:
    if argument.tensor is not None:
        if argument.tensor._version != argument.version:
            raise SwapError(
                f"a tensor of shape {tuple(argument.shape)} was written in place between forward and backward, and "
                "an activation is made again from it; allow swap alone"
            )
        return argument.tensor
    storage = made[argument.storage] if argument.storage in made else find(argument.storage)
    return view_on(storage, argument.dtype, argument.shape, argument.strides, argument.offset)


def _results(plan: OpToRepeat, result: Any) -> Iterator[tuple[int, torch.UntypedStorage]]:
    single = isinstance(result, torch.Tensor)
    tensors = [result] if single else [leaf for leaf in pytree.tree_leaves(result) if isinstance(leaf, torch.Tensor)]
    if len(tensors) != len(plan.outputs):
        raise SwapError(f"{plan.name} gave {len(tensors)} results, then {len(plan.outputs)}; allow swap alone")
    for number, tensor in zip(plan.outputs, tensors, strict=True):
        yield number, tensor.untyped_storage()


def view_on(
    storage: torch.UntypedStorage, dtype: torch.dtype, shape: torch.Size, strides: tuple[int, ...], offset: int
) -> torch.Tensor:
    """Return a tensor on the storage."""
    return torch.empty(0, dtype=dtype).set_(storage, offset, shape, strides)
