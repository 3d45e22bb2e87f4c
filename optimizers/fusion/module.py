"""The module that takes a model's place: runs the program where it is valid, and the model itself everywhere else."""

from __future__ import annotations

import copy
import operator
from collections import Counter
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.modules import module as module_hooks
from torch.utils import _pytree as pytree

from optimizers.fusion.capture import Captured, Signature
from optimizers.fusion.guards import Guards
from optimizers.fusion.quick import Quick, quick_call
from optimizers.fusion.runtime import Runner

if TYPE_CHECKING:
    from optimizers.fusion.cuda_runner import CudaRunner

_Module = torch.nn.Module
_MODULE_CALL = _Module.__call__
"""Tools that follow a model module by module put another function in its place."""


class FusedModule(torch.nn.Module):
    """Computes what `original` computes; parameters, buffers and their names are the original's own.

    The program is used for inputs of the captured shapes, strides, dtypes and plain values, without gradients,
    in the captured train or eval mode. Everything else runs the original: `fallbacks` counts why.
    """

    def __init__(self, original: torch.nn.Module, captured: Captured | Signature, runner: Runner | CudaRunner) -> None:
        super().__init__()
        # The same dictionaries, not copies: what is replaced in one is replaced in the other.
        for name in ("_parameters", "_buffers", "_modules"):
            object.__setattr__(self, name, getattr(original, name))
        # Not an attribute that Module registers: its parameters would appear under two names.
        self.__dict__["_original"] = original
        self.captured = captured
        self.runner = runner
        self.fallbacks: Counter[str] = Counter()
        self.measured = ""
        self._guards = Guards(original, captured)
        self._stale = ""
        self._output_spec = captured.output_spec
        self._single = captured.output_spec.is_leaf()
        # Set by the first call that the program computes; the hooks are those of this module, not the original's.
        self._quick: Quick | None = None
        own = (self._forward_hooks, self._forward_pre_hooks, self._backward_hooks, self._backward_pre_hooks)
        self._own_hooks = (*own, module_hooks._global_backward_hooks, module_hooks._global_backward_pre_hooks)

    @property
    def original(self) -> torch.nn.Module:
        """Return the model as it was."""
        model: torch.nn.Module = self.__dict__["_original"]
        return model

    @property
    def training(self) -> bool:
        """Return the original's mode."""
        model = self.__dict__.get("_original")
        return model is None or bool(model.training)

    @training.setter
    def training(self, mode: bool) -> None:
        model = self.__dict__.get("_original")
        if model is not None:  # Module's own __init__ sets it before there is an original
            model.training = mode

    @property
    def summary(self) -> str:
        """Return in one line what the program is made of and what was measured when it was kept."""
        return f"{self.extra_repr()}{self.measured and '; ' + self.measured}"

    def __deepcopy__(self, memo: dict[int, Any]) -> FusedModule:
        """Return a fused copy of a copy of the original, with memory of its own."""
        copied = self._around(copy.deepcopy(self.original, memo))
        memo[id(self)] = copied
        return copied

    def __copy__(self) -> FusedModule:
        """Return a fused copy of a shallow copy of the original, with memory of its own."""
        return self._around(copy.copy(self.original))

    def _around(self, model: torch.nn.Module) -> FusedModule:
        fused = FusedModule(model, self.captured, self.runner.again())
        fused.measured = self.measured
        # The copy's guards hold for the model as it is now, which may no longer be what was captured.
        fused._stale = self._stale or self._guards.changed()
        return fused

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        """Return what pickle and torch.save store: the original, since kernels belong to one machine."""
        return operator.getitem, ((self.original,), 0)

    def train(self, mode: bool = True) -> FusedModule:
        """Set the mode of the original and its children."""
        self.original.train(mode)
        return self

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Return what the original returns: at once where all is as at the call before."""
        if (
            torch.compiler.is_compiling()  # first: a compiler reads what follows
            or self._quick is None
            or kwargs
            or self._compiled_call_impl is not None
            or _Module.__call__ is not _MODULE_CALL
            or (flat := self._quick(args)) is None
        ):
            return super().__call__(*args, **kwargs)
        return flat[0] if self._single else pytree.tree_unflatten(list(flat), self._output_spec)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return what the original returns."""
        if torch.compiler.is_compiling():  # a compiler reads the ops of the model, not the kernels
            return self.original(*args, **kwargs)
        found = self._stale or self._guards.check(args, kwargs)
        if isinstance(found, str):
            self.fallbacks[found] += 1
            return self.original(*args, **kwargs)
        flat = self.runner(*found)
        watch = None if kwargs else self._guards.watch(args, self._own_hooks)
        if watch is not None:
            # Read after the versions that the watch holds: weights that come later come with other versions.
            self._quick = quick_call(watch, self.runner, self._guards.weights)
        return flat[0] if self._single else pytree.tree_unflatten(list(flat), self._output_spec)

    def current_weights(self) -> list[torch.Tensor]:
        """Return the weights as they are now, in the program's order."""
        return self._guards.current_weights()

    def extra_repr(self) -> str:
        """Return what the program is made of."""
        program = self.runner.program
        return f"fused: {program.kernel_calls} kernel calls, {program.library_calls} library calls a step"
