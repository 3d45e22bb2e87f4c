"""What forward can read and change besides tensors: attributes of modules and classes, and the containers in them."""

from __future__ import annotations

import argparse
import gc
import sys
import types
from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

_ABSENT = object()
_SCALARS = (int, float, complex, bool, str, bytes, type(None), torch.dtype, torch.device)
_FOLLOWED: dict[str, Kind] = {
    "_parameters": "weights",
    "_buffers": "weights",
    "_modules": "submodules",
    "_forward_hooks": "hooks",
    "_forward_pre_hooks": "hooks",
}
_BOOKKEEPING = frozenset(vars(torch.nn.Module()))
# Set by calls that change no result: the kind of a backward hook, the compiled form of a module's call.
_WITHOUT_EFFECT = frozenset({"_is_full_backward_hook", "_compiled_call_impl"})
_PLAIN_OBJECTS = (types.SimpleNamespace, argparse.Namespace)


Kind = Literal["attributes", "weights", "submodules", "hooks", "items"]


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """One container that forward can reach, and what it held.

    label:     where it is, as a user writes it: "layers.0.sizes".
    container: a dict, list, deque, set, or the bytes of an array.
    keys:      the keys of a dict, in order; the items of all others.
    values:    the values of a dict; none otherwise.
    kind:      whose it is; "attributes" are those of an object or class, where order has no meaning.
    owner:     the class whose attributes they are: those are changed through the class alone.
    """

    label: str
    container: Any
    keys: tuple[Any, ...]
    values: tuple[Any, ...]
    kind: Kind = "items"
    owner: type | None = None

    @property
    def is_dict(self) -> bool:
        """Return whether the container maps keys to values."""
        return isinstance(self.container, dict)

    def changed(self) -> str:
        """Return the label of what is no longer as it was, "" where nothing changed."""
        if not self.is_dict:
            now = tuple(self.container)
            same = len(now) == len(self.keys) and all(map(same_value, now, self.keys))
            return "" if same else self.label
        before = dict(zip(self.keys, self.values, strict=True))
        for key in (*self.keys, *(key for key in self.container if key not in before)):
            if not self._skipped(key) and not same_value(
                dict.get(self.container, key, _ABSENT), before.get(key, _ABSENT)
            ):
                return f"{self.label}.{key}".lstrip(".")
        return "" if self.kind == "attributes" or list(self.container) == list(self.keys) else self.label

    def _skipped(self, key: Any) -> bool:
        if self.owner is not None:
            return str(key).startswith("__") or key == "_abc_impl"
        return self.kind == "attributes" and key in _WITHOUT_EFFECT

    def restore(self) -> None:
        """Put back what it held."""
        if self.owner is not None:
            self._restore_class(self.owner)
            return
        if isinstance(self.container, Bytes):
            self.container.put(self.keys[0])
            return
        self.container.clear()
        if self.is_dict:
            self.container.update(zip(self.keys, self.values, strict=True))
        elif isinstance(self.container, set):
            self.container.update(self.keys)
        else:
            self.container.extend(self.keys)

    def _restore_class(self, owner: type) -> None:
        before = dict(zip(self.keys, self.values, strict=True))
        for key in {*before, *self.container}:
            if self._skipped(key) or self.container.get(key, _ABSENT) is before.get(key, _ABSENT):
                continue
            if key in before:
                setattr(owner, key, before[key])
            else:
                delattr(owner, key)


def same_value(now: Any, before: Any) -> bool:
    """Return whether one value stands for the other: the same object, or plain, of the same type and equal."""
    if now is before:
        return True
    if type(now) is not type(before):
        return False
    if isinstance(now, tuple):
        return len(now) == len(before) and all(map(same_value, now, before))
    # repr tells 0.0 from -0.0, which are equal.
    return isinstance(now, _SCALARS) and bool(now == before) and repr(now) == repr(before)


def held_state(model: torch.nn.Module) -> tuple[Held, ...]:
    """Return every container that forward can reach from the model's modules, each once, with what it holds now.

    Followed are attributes of modules, their classes and plain objects, dicts, lists, tuples, deques, sets, arrays;
    not followed are tensors, functions, iterators, objects of torch and of Python's library, and globals.
    """
    return tuple(_Walk(model).held())


class Bytes:
    """The bytes of a NumPy array, as a container whose one item is all of them."""

    __slots__ = ("array",)

    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        self.array = array

    def __iter__(self) -> Iterator[bytes]:
        yield self.array.tobytes()

    def put(self, content: bytes) -> None:
        """Write the bytes back."""
        self.array[...] = np.frombuffer(content, dtype=self.array.dtype).reshape(self.array.shape)


class _Walk:
    """A walk over containers that meets each once."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.model = model
        self.seen: set[int] = set()
        # Kept alive: an identity is only its own as long as its object lives.
        self.alive: list[Any] = []
        self.waiting: list[tuple[str, Any]] = []

    def held(self) -> Iterator[Held]:
        for name, module in self.model.named_modules():
            yield from self._module(name, module, registered=True)
        for cls in dict.fromkeys(cls for module in self.model.modules() for cls in type(module).__mro__):
            if cls not in (object, torch.nn.Module):
                yield from self._class(cls)
        while self.waiting:
            yield from self._value(*self.waiting.pop())

    def _is_new(self, value: Any) -> bool:
        if id(value) in self.seen:
            return False
        self.seen.add(id(value))
        self.alive.append(value)
        return True

    def _module(self, name: str, module: torch.nn.Module, registered: bool) -> Iterator[Held]:
        if not self._is_new(module):
            return
        attributes = vars(module)
        yield _held(name, attributes, "attributes")
        for key, value in attributes.items():
            if key in _FOLLOWED and self._is_new(value):
                kind = _FOLLOWED[key]
                yield _held(name, value, kind if registered or kind != "weights" else "items")
                if key == "_modules" and not registered:
                    self._wait(name, value)
            elif key not in _BOOKKEEPING:
                self.waiting.append((f"{name}.{key}".lstrip("."), value))

    def _class(self, cls: type) -> Iterator[Held]:
        # The dict behind the read-only view of it, which is made anew each time.
        attributes = gc.get_referents(cls.__dict__)[0]
        if isinstance(attributes, dict) and self._is_new(attributes):
            yield _held(cls.__name__, attributes, "attributes", cls)
            if cls.__module__.partition(".")[0] != "torch":
                self._wait(cls.__name__, {key: value for key, value in attributes.items() if not key.startswith("__")})

    def _wait(self, label: str, values: dict[Any, Any]) -> None:
        self.waiting += [(f"{label}.{key}".lstrip("."), value) for key, value in values.items()]

    def _value(self, label: str, value: Any) -> Iterator[Held]:
        if isinstance(value, (*_SCALARS, torch.Tensor, type, types.FunctionType, types.MethodType, types.ModuleType)):
            return
        if isinstance(value, torch.nn.Module):
            yield from self._module(label, value, registered=False)
        elif not self._is_new(value):
            return
        elif isinstance(value, np.ndarray):
            if value.flags.writeable and not value.dtype.hasobject:
                yield Held(label, Bytes(value), (value.tobytes(),), ())
        elif isinstance(value, dict):
            yield _held(label, value)
            if isinstance(value, OrderedDict):
                # Moving a key to the end leaves no trace in the dict beneath.
                yield Held(label, value.keys(), tuple(value), ())
            self._wait(label, value)
        elif isinstance(value, list | deque | set | tuple | frozenset):
            if not isinstance(value, tuple | frozenset):
                yield Held(label, value, tuple(value), ())
            self.waiting += [(label, item) for item in value]
        else:
            attributes = _attributes(value)
            if attributes is not None:
                yield _held(label, attributes, "attributes")
                self._wait(label, attributes)


def _held(label: str, container: dict[Any, Any], kind: Kind = "items", owner: type | None = None) -> Held:
    return Held(label, container, tuple(container), tuple(container.values()), kind, owner)


def _attributes(value: Any) -> dict[Any, Any] | None:
    """Return the attributes of a plain object, None for what has none or comes from torch or Python's library."""
    library = type(value).__module__.partition(".")[0]
    if not isinstance(value, _PLAIN_OBJECTS) and (library == "torch" or library in sys.stdlib_module_names):
        return None
    try:
        attributes = object.__getattribute__(value, "__dict__")
    except AttributeError:
        return None
    return attributes if isinstance(attributes, dict) else None
