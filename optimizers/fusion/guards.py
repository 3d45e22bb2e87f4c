"""What must hold for a program to be right, checked at each call: inputs, weights, state, and what runs around it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import is_
from typing import Any

import torch
from torch.autograd import forward_ad
from torch.nn.modules import module as module_hooks
from torch.utils import _pytree as pytree
from torch.utils._device import DeviceContext

from optimizers.fusion.capture import Captured, Signature
from optimizers.fusion.state import Bytes, Held, held_state

_TENSORS = (torch.Tensor, torch.nn.Parameter)
# torch.compile's own guards: each reads in C what would take Python half a microsecond a tensor.
_version_of = torch._C._dynamo.guards.dict_version
_Layouts = torch._C._dynamo.guards.TensorGuards
_function_modes = torch._C._len_torch_function_stack
_default_dtype = torch.get_default_dtype


class Guards:
    """The conditions of one program.

    A check reads versions of dicts, identities and layouts; only where one differs is the state compared by value.
    """

    def __init__(self, original: torch.nn.Module, captured: Captured | Signature) -> None:
        self._input_spec = captured.input_spec
        self._leaves = [_describe(leaf) for leaf in captured.inputs]
        self._positional = all(isinstance(leaf, torch.Tensor) for leaf in captured.inputs) and (
            captured.input_spec == pytree.tree_structure((tuple(captured.inputs), {}))
        )
        self._owners = _weight_owners(original, captured.weights)
        self.weights = self.current_weights()
        self._described = [_describe(weight) for weight in self.weights]
        self._layouts: dict[bool, Any] = {}
        self._input_layouts: dict[bool, Any] = {}
        self._modules = list(original.modules())
        self._types = list(map(type, self._modules))
        self._dtype = torch.get_default_dtype()
        held = held_state(original)
        self._state = [one for one in held if one.is_dict and one.kind != "weights"]
        self._places = [_places(one, captured.weights, self.weights) for one in held if one.kind == "weights"]
        self._first = _first_of_same(self.weights)
        self._arrays = [one for one in held if isinstance(one.container, Bytes)]
        self._sequences = [one for one in held if not one.is_dict and one.keys and one not in self._arrays]
        self._items = [(one.container, one.keys) for one in self._sequences]
        self._empty = [one for one in held if not one.keys]
        self._empty_containers = [one.container for one in self._empty]
        self._dicts = [one.container for one in held if one.is_dict and one.keys]
        self._versions: list[int] = []

    def current_weights(self) -> list[torch.Tensor]:
        """Return the weights as they are now, in the program's order."""
        return [owner[key] for owner, key in self._owners]

    def check(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[list[torch.Tensor], list[torch.Tensor]] | str:
        """Return (weights, tensor inputs), or in a few words why the program can't be used."""
        around = _around()
        if around:
            return around
        inputs = self._check_inputs(args, kwargs)
        if isinstance(inputs, str):
            return inputs
        if torch.is_grad_enabled() and any(t.requires_grad for t in (*self.weights, *inputs)):
            return "gradients"
        if torch.is_autocast_enabled("cpu") or torch.get_default_dtype() != self._dtype:
            return "autocast or another default dtype"
        return self.changed() or (self.weights, inputs)

    def changed(self) -> str:
        """Return in a few words what of the model is no longer as it was captured, "" where all is."""
        return self._check_state() or self._check_layouts(self.weights)

    def watch(self, args: tuple[Any, ...], hooks: Sequence[Any]) -> Callable[[tuple[Any, ...]], bool] | None:
        """Return a quick check that what `check` has just found right for `args` still is, None where there is none.

        It gives False where anything differs, and for some calls that are right: `check` decides those. What torch
        compares of a tensor holds for where it is read, too: under modes, transforms, tracing, autocast and in or out
        of inference mode the same tensor has other dispatch keys. hooks: further dicts that are to be empty.
        """
        # The versions first: where another thread changes the weights meanwhile, the versions are no longer these.
        versions, weights = self._versions, list(dict.fromkeys(self.weights))
        inference = torch.is_inference_mode_enabled()
        inputs_like, weights_like = self._input_layouts.get(inference), self._layouts.get(inference)
        if not self._positional or not args or inputs_like is None or weights_like is None:
            return None
        inputs_hold, weights_hold = inputs_like.check, weights_like.check if weights else None
        count, dicts, modules, types, dtype = len(args), self._dicts, self._modules, self._types, self._dtype
        empty = (*self._empty_containers, *hooks, module_hooks._global_forward_hooks)
        empty = (*empty, module_hooks._global_forward_pre_hooks)
        changing = bool(self._items or self._arrays)
        # Each layout holds whether its tensor asks for gradients.
        asking = any(tensor.requires_grad for tensor in (*weights, *args))

        def holds(args: tuple[Any, ...]) -> bool:
            return (
                len(args) == count
                and inputs_hold(*args)
                and (weights_hold is None or weights_hold(*weights))
                and [*map(_version_of, dicts)] == versions
                and [*map(type, modules)] == types
                and not any(empty)
                and not (asking and torch.is_grad_enabled())
                and not _function_modes()
                and forward_ad._current_level < 0
                and _default_dtype() is dtype
                and not (changing and self._check_containers())
            )

        return holds

    def _check_inputs(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[torch.Tensor] | str:
        known = None
        if self._positional and not kwargs and len(args) == len(self._leaves):
            known = self._input_layouts.get(torch.is_inference_mode_enabled())
            if known is not None and known.check(*args):
                return list(args)
            leaves: Any = args
        else:
            leaves, spec = pytree.tree_flatten((args, kwargs))
            if spec != self._input_spec:
                return "other arguments"
        inputs: list[torch.Tensor] = []
        for leaf, expected in zip(leaves, self._leaves, strict=True):
            if not isinstance(expected, tuple):
                if type(leaf) is not type(expected.value) or leaf != expected.value:
                    return "another plain argument"
            elif type(leaf) not in _TENSORS or _describe(leaf) != expected:
                return "another shape, stride, dtype or device"
            else:
                inputs.append(leaf)
        # One tensor given twice has no quick check.
        if self._positional and inputs and len({*map(id, inputs)}) == len(inputs):
            self._input_layouts[torch.is_inference_mode_enabled()] = _layouts_of(inputs)
        return inputs

    def _check_state(self) -> str:
        # Read before the comparison: a change during it is seen by the next call.
        versions = list(map(_version_of, self._dicts))
        if versions != self._versions:
            reason = self._compare_state()
            if reason:
                return reason
            self._versions = versions
        if any(self._empty_containers):
            return next(_reason(one, one.label) for one in self._empty if one.container)
        if list(map(type, self._modules)) != self._types:
            return "a module of another class"
        return self._check_containers()

    def _check_containers(self) -> str:
        for container, items in self._items:
            if len(container) != len(items) or not all(map(is_, container, items)):
                return _first_change(self._sequences)
        return _first_change(self._arrays)

    def _compare_state(self) -> str:
        """Compare everything by value; return the difference in words, or "" and take over the weights."""
        changed = _first_change(self._state)
        if changed:
            return changed
        weights: list[Any] = [owner.get(key) for owner, key in self._owners]
        for label, container, positions in self._places:
            if list(container) != list(positions):
                return f"other parameters or buffers of {label or 'the model'}"
            for key, position in positions.items():
                if container[key] is not (None if position is None else weights[position]):
                    name = f"{label}.{key}".lstrip(".")
                    return f"{name} is set now" if position is None else f"{name} is no longer tied"
        if any(weight is not weights[first] for weight, first in zip(weights, self._first, strict=True)):
            return "a weight is no longer tied"
        if any(type(weight) not in _TENSORS for weight in weights):
            return "a weight of another class"
        self.weights = weights
        return ""

    def _check_layouts(self, weights: list[torch.Tensor]) -> str:
        inference = torch.is_inference_mode_enabled()
        layouts = self._layouts.get(inference)
        # Each once: torch refuses a tensor that it is given twice, as tied weights would be.
        distinct = list(dict.fromkeys(weights))
        if layouts is None or not layouts.check(*distinct):
            for weight, expected in zip(weights, self._described, strict=True):
                if type(weight) not in _TENSORS or _describe(weight) != expected:
                    return "a weight of another shape, stride, dtype or device"
            self._layouts[inference] = _layouts_of(distinct)
        return ""


def _layouts_of(tensors: Sequence[torch.Tensor]) -> Any:
    """Return torch's own check of classes, dtypes, devices, shapes and strides: one call for all tensors."""
    sizes: list[Any] = [list(tensor.shape) for tensor in tensors]
    strides: list[Any] = [list(tensor.stride()) for tensor in tensors]
    return _Layouts(*tensors, dynamic_dims_sizes=sizes, dynamic_dims_strides=strides)


def _around() -> str:
    """Return what around the call must see each op of the model, "" where nothing does."""
    if torch._C._len_torch_dispatch_stack():
        return "a torch dispatch mode"
    if torch._C._len_torch_function_stack() and not _only_default_cpu():
        return "a torch function mode"
    if torch._C._functorch.peek_interpreter_stack() is not None:
        return "a functorch transform"
    if torch._C._get_tracing_state() is not None:
        return "jit tracing"
    if forward_ad._current_level >= 0:
        return "forward-mode differentiation"
    if module_hooks._global_forward_hooks or module_hooks._global_forward_pre_hooks:
        return "global forward hooks"
    return ""


def _only_default_cpu() -> bool:
    """Return whether the modes do no more than what `torch.set_default_device("cpu")` asks for."""
    modes = [torch._C._get_function_stack_at(k) for k in range(torch._C._len_torch_function_stack())]
    return all(type(mode) is DeviceContext and mode.device.type == "cpu" for mode in modes)


def _first_change(state: list[Held]) -> str:
    return next((_reason(held, label) for held in state if (label := held.changed())), "")


def _reason(held: Held, label: str) -> str:
    if held.kind == "hooks":
        return "forward hooks"
    return "other submodules" if held.kind == "submodules" else f"another value of {label}"


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


def _places(
    held: Held, names: tuple[str, ...], weights: list[torch.Tensor]
) -> tuple[str, dict[str, Any], dict[str, int | None]]:
    """Return (label, container, which weight stands under each key): tied weights stand under several."""
    by_name = {name: position for position, name in enumerate(names)}
    by_tensor = {id(weight): position for position, weight in enumerate(weights)}
    positions: dict[str, int | None] = {}
    for key, value in zip(held.keys, held.values, strict=True):
        name = f"{held.label}.{key}".lstrip(".")
        positions[key] = None if value is None else by_name.get(name, by_tensor[id(value)])
    return held.label, held.container, positions


def _first_of_same(weights: list[torch.Tensor]) -> list[int]:
    """Return for each weight the first position of the same tensor: one may be a parameter and a buffer at once."""
    first: dict[int, int] = {}
    return [first.setdefault(id(weight), position) for position, weight in enumerate(weights)]
