"""Capture refuses forward methods that change state, and undoes what tracing changed."""

from __future__ import annotations

import types
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from optimizers.fusion.capture import UnfusableError, capture
from optimizers.fusion.refusals import MOST_ITEMS
from optimizers.fusion.state import held_state


class Stateful(torch.nn.Module):
    """Changes its state as `change` says."""

    calls = 0

    def __init__(self, change: Callable[[Any, torch.Tensor], object]) -> None:
        super().__init__()
        self.change = change
        self.history: list[Any] = ["begin"]
        self.cache: dict[str, Any] = {"deep": {"list": []}, "kept": 1}
        self.recent: deque[Any] = deque(maxlen=2)
        self.seen: set[Any] = set()
        self.pair = ([1], 2)
        self.options = types.SimpleNamespace(last=None)
        self.array = np.zeros((2, 3))
        self.counter = 0
        self.register_buffer("total", torch.zeros(4))
        self.layer = torch.nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.tanh(self.layer(x))
        self.change(self, y)
        return y * 2


CHANGES: dict[str, tuple[str, Callable[[Any, torch.Tensor], object]]] = {
    "append": ("changes history", lambda m, y: m.history.append(y)),
    "replace an item": ("changes history", lambda m, y: m.history.__setitem__(0, y)),
    "new key": ("changes cache.fresh", lambda m, y: m.cache.update(fresh=y)),
    "lost key": ("changes cache.kept", lambda m, y: m.cache.pop("kept")),
    "nested list": ("changes cache.deep.list", lambda m, y: m.cache["deep"]["list"].append(y)),
    "deque": ("changes recent", lambda m, y: m.recent.append(y)),
    "set": ("changes seen", lambda m, y: m.seen.add(y)),
    "list in a tuple": ("changes pair", lambda m, y: m.pair[0].append(y)),
    "array": ("changes array", lambda m, y: m.array.__iadd__(1)),
    "attribute of an object": ("assigns options.last", lambda m, y: setattr(m.options, "last", y)),
    "number": ("assigns counter", lambda m, y: setattr(m, "counter", m.counter + 1)),
    "buffer": ("assigns total", lambda m, y: setattr(m, "total", m.total + y.sum(0))),
    "new buffer": ("assigns fresh", lambda m, y: m.register_buffer("fresh", y)),
    "weight of a child": (
        "assigns layer.bias",
        lambda m, y: m.layer._parameters.update(bias=m.layer.bias + 1),
    ),
    "new child": ("changes fresh", lambda m, y: m.add_module("fresh", torch.nn.Tanh())),
    "class": ("assigns Stateful.calls", lambda m, y: setattr(type(m), "calls", type(m).calls + 1)),
}


def _picture(model: torch.nn.Module) -> list[tuple[str, list[Any], list[Any]]]:
    def exact(values: tuple[Any, ...]) -> list[Any]:
        return [value if isinstance(value, bytes) else id(value) for value in values]

    return [(held.label, exact(held.keys), exact(held.values)) for held in held_state(model)]


@pytest.mark.parametrize("change", CHANGES)
def test_state_changed_by_forward_is_refused_and_undone(change: str) -> None:
    words, function = CHANGES[change]
    model = Stateful(function)
    before = _picture(model)
    with pytest.raises(UnfusableError, match=f"^forward {words}, which a fused program would not"):
        capture(model, (torch.randn(3, 4),), {})
    assert _picture(model) == before


def test_state_is_undone_where_tracing_fails() -> None:
    def change(model: Any, y: torch.Tensor) -> None:
        model.history.append(y)
        model.counter = 7
        float(y.sum())

    model = Stateful(change)
    with pytest.raises(UnfusableError, match="tensor values"):
        capture(model, (torch.randn(3, 4),), {})
    assert model.history == ["begin"] and model.counter == 0


def test_state_that_is_as_before_is_no_change() -> None:
    def change(model: Any, y: torch.Tensor) -> None:
        model.history.append(y)
        model.history.pop()
        model.counter = model.counter + 0

    assert capture(Stateful(change), (torch.randn(3, 4),), {}).weights


def test_state_that_reaches_itself_is_followed_once() -> None:
    model = Stateful(lambda m, y: None)
    model.cache["itself"] = model.cache
    model.cache["model"] = model
    containers = [id(held.container) for held in held_state(model)]
    assert len(containers) == len(set(containers))
    assert capture(model, (torch.randn(3, 4),), {}).weights


def test_lists_too_long_to_check_are_refused() -> None:
    model = Stateful(lambda m, y: None)
    model.history += range(MOST_ITEMS)
    with pytest.raises(UnfusableError, match=f"^history holds {MOST_ITEMS + 1} items, .*keep them out of the model"):
        capture(model, (torch.randn(3, 4),), {})
    model.history = tuple(model.history)  # type: ignore[assignment]
    assert capture(model, (torch.randn(3, 4),), {}).weights


def test_arrays_too_large_to_check_are_refused() -> None:
    model = Stateful(lambda m, y: None)
    model.array = np.zeros(MOST_ITEMS + 1, dtype=np.uint8)
    with pytest.raises(UnfusableError, match=f"^array is a NumPy array of {MOST_ITEMS + 1} bytes.*register"):
        capture(model, (torch.randn(3, 4),), {})
    model.array.flags.writeable = False
    assert capture(model, (torch.randn(3, 4),), {}).weights


def test_too_many_containers_are_refused() -> None:
    model = Stateful(lambda m, y: None)
    model.cache["many"] = {key: {} for key in range(2 * MOST_ITEMS)}
    with pytest.raises(UnfusableError, match="reach .* containers, among them .*keep them out of the model"):
        capture(model, (torch.randn(3, 4),), {})


def test_scripts_are_refused() -> None:
    model = torch.nn.Sequential(torch.jit.script(torch.nn.Linear(4, 4)), torch.nn.Tanh())
    with pytest.raises(UnfusableError, match=r"module '0' is a script of torch\.jit"):
        capture(model, (torch.randn(3, 4),), {})
