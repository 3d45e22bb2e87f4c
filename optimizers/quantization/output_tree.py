"""What a model returns, as plain JSON around numbered leaves: a program that is loaded needs no class of a library."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any

import torch
from torch.utils import _pytree as pytree

from analyzer.errors import HotbenchError


class Record(dict[str, Any]):
    """A dictionary whose values are attributes and, by place, items too: what stands for a library's result class."""

    def __getattr__(self, name: str) -> Any:
        """Return the value called `name`."""
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"the result has no {name!r}; it has {', '.join(self)}") from None

    def __getitem__(self, key: Any) -> Any:
        """Return the value called `key`, or the one at a place, or those of a slice."""
        return super().__getitem__(key) if isinstance(key, str) else tuple(self.values())[key]


class FlatModel(torch.nn.Module):
    """A model that returns the leaves of what `model` returns; None and plain values are no leaves."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

        # With the model's own signature: torch.export goes by the names of the arguments.
        @functools.wraps(model.forward)
        def forward(*args: Any, **kwargs: Any) -> tuple[torch.Tensor, ...]:
            return tuple(leaf for leaf in pytree.tree_leaves(model(*args, **kwargs)) if is_tensor(leaf))

        self.forward = forward


def is_tensor(value: Any) -> bool:
    """Return whether a value is a tensor."""
    return isinstance(value, torch.Tensor)


def described(outputs: Any) -> Any:
    """Return the structure of a model's outputs, tensors numbered in the order of FlatModel's.

    Raises HotbenchError for a class that torch does not flatten.
    """
    leaves, spec = pytree.tree_flatten(outputs)
    numbers = count()
    numbered = [_Leaf(next(numbers)) if is_tensor(leaf) else leaf for leaf in leaves]
    return _described(pytree.tree_unflatten(numbered, spec))


def rebuilt(tree: Any, leaves: Sequence[Any]) -> Any:
    """Return outputs of a described structure around other leaves."""
    kind = tree["kind"]
    if kind == "leaf":
        return leaves[tree["number"]]
    if kind == "plain":
        return tree["value"]
    items = [rebuilt(item, leaves) for item in tree["items"]]
    if kind in ("tuple", "list"):
        return tuple(items) if kind == "tuple" else items
    named = zip(tree["keys"], items, strict=True)
    return Record(named) if kind == "record" else dict(named)


class _Leaf:
    """The place of a tensor among the leaves."""

    def __init__(self, number: int) -> None:
        self.number = number


def _described(value: Any) -> dict[str, Any]:
    if isinstance(value, _Leaf):
        return {"kind": "leaf", "number": value.number}
    if value is None or isinstance(value, bool | int | float | str):
        return {"kind": "plain", "value": value}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return {"kind": "record", "keys": list(value._fields), "items": [_described(item) for item in value]}
    if isinstance(value, tuple | list):
        kind = "tuple" if isinstance(value, tuple) else "list"
        return {"kind": kind, "items": [_described(item) for item in value]}
    if isinstance(value, Mapping):
        kind = "dict" if type(value) is dict else "record"
        return {"kind": kind, "keys": list(value), "items": [_described(item) for item in value.values()]}
    raise HotbenchError(f"the model returns a {type(value).__name__}, which torch does not take apart; return tensors")
