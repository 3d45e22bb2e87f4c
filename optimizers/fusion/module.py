"""The module that takes a model's place: runs the program where it is valid, and the model itself everywhere else."""

from __future__ import annotations

import copy
from collections import Counter
from typing import Any

import torch
from torch.utils import _pytree as pytree

from optimizers.fusion.capture import Captured
from optimizers.fusion.runtime import Runner

_PLAIN = (int, float, bool, str, tuple, type(None))


class FusedModule(torch.nn.Module):
    """Computes what `original` computes; parameters, buffers and their names are the original's own.

    The program is used for inputs of the captured shapes, strides, dtypes and plain values, without gradients,
    in the captured train or eval mode. Everything else runs the original: `fallbacks` counts why.
    """

    def __init__(self, original: torch.nn.Module, captured: Captured, runner: Runner) -> None:
        super().__init__()
        # The same dictionaries, not copies: what is replaced in one is replaced in the other.
        for name in ("_parameters", "_buffers", "_modules"):
            object.__setattr__(self, name, getattr(original, name))
        # Not an attribute that Module registers: its parameters would appear under two names.
        self.__dict__["_original"] = original
        self.training = original.training
        self.captured = captured
        self.runner = runner
        self.fallbacks: Counter[str] = Counter()
        self.measured = ""
        self._guards = _Guards(original, captured)
        self._output_spec = captured.output_spec
        self._single = captured.output_spec.is_leaf()

    @property
    def original(self) -> torch.nn.Module:
        """Return the model as it was."""
        model: torch.nn.Module = self.__dict__["_original"]
        return model

    @property
    def summary(self) -> str:
        """Return in one line what the program is made of and what was measured when it was kept."""
        return f"{self.extra_repr()}{self.measured and '; ' + self.measured}"

    def __deepcopy__(self, memo: dict[int, Any]) -> FusedModule:
        """Return a fused copy of a copy of the original, with memory of its own."""
        copied = FusedModule(
            copy.deepcopy(self.original, memo), self.captured, Runner(self.runner.program, self.runner.kernels)
        )
        copied.measured = self.measured
        memo[id(self)] = copied
        return copied

    def train(self, mode: bool = True) -> FusedModule:
        """Set the mode of the original and its children."""
        self.original.train(mode)
        self.training = mode
        return self

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return what the original returns."""
        found = self._guards.check(args, kwargs)
        if isinstance(found, str):
            self.fallbacks[found] += 1
            return self.original(*args, **kwargs)
        flat = self.runner(*found)
        return flat[0] if self._single else pytree.tree_unflatten(list(flat), self._output_spec)

    def current_weights(self) -> list[torch.Tensor]:
        """Return the weights as they are now, in the program's order."""
        return [owner[key] for owner, key in self._guards.owners]

    def extra_repr(self) -> str:
        """Return what the program is made of."""
        program = self.runner.program
        return f"fused: {program.kernel_calls} kernel calls, {program.library_calls} library calls a step"


class _Guards:
    """What must hold for the program to be right."""

    def __init__(self, original: torch.nn.Module, captured: Captured) -> None:
        self.input_spec = captured.input_spec
        self.leaves = [_describe(leaf) for leaf in captured.inputs]
        self.positional = all(isinstance(leaf, torch.Tensor) for leaf in captured.inputs) and (
            captured.input_spec == pytree.tree_structure((tuple(captured.inputs), {}))
        )
        self.owners = _weight_owners(original, captured.weights)
        self.weights = [_describe(owner[key]) for owner, key in self.owners]
        self.state = [
            (vars(module), name, value)
            for module in original.modules()
            for name, value in vars(module).items()
            if isinstance(value, _PLAIN) and name not in ("_is_full_backward_hook",)
        ]
        self.modules = [vars(module) for module in original.modules()]
        self.children = [(v["_modules"], list(v["_modules"].values())) for v in self.modules if v["_modules"]]
        self.dtype = torch.get_default_dtype()

    def check(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[list[torch.Tensor], list[torch.Tensor]] | str:
        """Return (weights, tensor inputs), or in a few words why the program can't be used."""
        if self.positional and not kwargs and len(args) == len(self.leaves):
            leaves: Any = args
        else:
            leaves, spec = pytree.tree_flatten((args, kwargs))
            if spec != self.input_spec:
                return "other arguments"
        inputs: list[torch.Tensor] = []
        for leaf, expected in zip(leaves, self.leaves, strict=True):
            if not isinstance(expected, tuple):
                if type(leaf) is not type(expected.value) or leaf != expected.value:
                    return "another plain argument"
            elif type(leaf) not in _TENSORS or _describe(leaf) != expected:
                return "another shape, stride, dtype or device"
            else:
                inputs.append(leaf)
        weights = [owner.get(key) for owner, key in self.owners]
        return self._check_state(weights, inputs) or (weights, inputs)  # type: ignore[return-value]

    def _check_state(self, weights: list[torch.Tensor | None], inputs: list[torch.Tensor]) -> str:
        for weight, expected in zip(weights, self.weights, strict=True):
            if weight is None or type(weight) not in _TENSORS or _describe(weight) != expected:
                return "a weight of another shape, stride, dtype or device"
        for attributes, name, value in self.state:
            if attributes.get(name, self) is not value and attributes.get(name, self) != value:
                return f"another value of {name}"
        for attributes in self.modules:
            if attributes["_forward_hooks"] or attributes["_forward_pre_hooks"]:
                return "forward hooks"
        for found, children in self.children:
            if list(found.values()) != children:
                return "other submodules"
        if torch.is_grad_enabled() and any(t.requires_grad for t in (*weights, *inputs) if t is not None):
            return "gradients"
        if torch.is_autocast_enabled("cpu") or torch.get_default_dtype() != self.dtype:
            return "autocast or another default dtype"
        return ""


_TENSORS = (torch.Tensor, torch.nn.Parameter)


class _Plain:
    """An input that is no tensor: a constant of the program."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


def _describe(leaf: Any) -> Any:
    if not isinstance(leaf, torch.Tensor):
        return _Plain(leaf)
    return leaf.shape, leaf.stride(), leaf.dtype, leaf.device, leaf.is_neg() or leaf.is_conj()


def _weight_owners(original: torch.nn.Module, names: tuple[str, ...]) -> list[tuple[dict[str, Any], str]]:
    owners = []
    for name in names:
        path, _, key = name.rpartition(".")
        module = original.get_submodule(path)
        owners.append((module._parameters if key in module._parameters else module._buffers, key))
    return owners
