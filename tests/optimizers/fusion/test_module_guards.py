"""A fused module sees every change of the model that its program was not made for."""

from __future__ import annotations

import copy
import types
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from optimizers.fusion.module import FusedModule
from tests.optimizers.fusion.interpreted import assert_same, fused_module


class Configured(torch.nn.Module):
    """Reads plain state of every kind."""

    gain = 3.0
    table = {"offset": 0.25}  # noqa: RUF012 - the class's own dict is what is tested

    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Linear(4, 4)
        self.second = torch.nn.Linear(4, 4, bias=False)
        self.config = {"scale": 2.0, "deep": {"values": [1.0, 2.0]}}
        self.factors = [1.0, 2.0]
        self.recent = deque([0.5], maxlen=3)
        self.names = {"a"}
        self.order = OrderedDict(x=1.0, y=2.0)
        self.options = types.SimpleNamespace(power=1, inner=types.SimpleNamespace(shift=0.5))
        self.activation = torch.tanh
        self.array = np.array([0.5, 1.5], dtype=np.float32)
        self.dropouts = [torch.nn.Dropout(0.5).eval()]
        self.none: Any = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.activation(self.second(self.activation(self.first(x)))) * self.config["scale"] * self.gain
        y = y * self.factors[0] + self.recent[0] + len(self.names) + next(iter(self.order.values()))
        y = (
            y
            + self.config["deep"]["values"][1]
            + self.options.inner.shift
            + self.table["offset"]
            + float(self.array[0])
        )
        return self.dropouts[0](y) ** self.options.power


def _changes() -> dict[str, Callable[[Any], object]]:
    return {
        "value of a dict": lambda m: m.config.update(scale=5.0),
        "key of a dict": lambda m: m.config.update(other=5.0),
        "int in a float's place": lambda m: m.config.update(scale=2),
        "item of a list in a dict": lambda m: m.config["deep"]["values"].__setitem__(1, 7.0),
        "item of a list": lambda m: m.factors.__setitem__(0, 9.0),
        "longer list": lambda m: m.factors.append(9.0),
        "deque": lambda m: m.recent.appendleft(4.0),
        "set": lambda m: m.names.add("b"),
        "order of a dict": lambda m: m.order.move_to_end("x"),
        "another dict": lambda m: setattr(m, "config", {"scale": 5.0, "deep": {"values": [1.0, 2.0]}}),
        "attribute of an object": lambda m: setattr(m.options, "power", 2),
        "attribute of an object's object": lambda m: setattr(m.options.inner, "shift", 2.0),
        "item of an array": lambda m: m.array.__setitem__(0, 4.0),
        "function": lambda m: setattr(m, "activation", torch.sigmoid),
        "forward": lambda m: setattr(m, "forward", lambda x: x),
        "module in a list": lambda m: m.dropouts[0].train(),
        "module's class": lambda m: setattr(m.second, "__class__", torch.nn.Identity),
        "first child of a module": lambda m: m.second.add_module("child", torch.nn.Tanh()),
        "None that becomes a parameter": lambda m: setattr(m.second, "bias", torch.nn.Parameter(torch.randn(4))),
        "parameter that becomes None": lambda m: setattr(m.first, "bias", None),
        "new attribute": lambda m: setattr(m, "fresh", 1),
        "transposed weight at the same address": lambda m: setattr(m.first.weight, "data", m.first.weight.data.t()),
        "hook of a child": lambda m: m.first.register_forward_hook(lambda _m, _i, output: output * 2),
        "hook before a child": lambda m: m.first.register_forward_pre_hook(lambda _m, inputs: (inputs[0] * 2,)),
    }  # fmt: skip


@pytest.mark.parametrize("change", _changes())
def test_change_of_the_model_runs_the_original(change: str) -> None:
    model, x = Configured().eval(), torch.randn(3, 4)
    fused = fused_module(model, (x,))
    with torch.no_grad():
        assert_same(fused(x), model(x))
        assert not fused.fallbacks
        _changes()[change](model)
        generator = torch.get_rng_state()
        expected = model(x)
        torch.set_rng_state(generator)
        assert_same(fused(x), expected)
    assert sum(fused.fallbacks.values()) == 1, change


def test_change_of_a_class_runs_the_original(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = Configured().eval(), torch.randn(3, 4)
    fused = fused_module(model, (x,))
    changes: list[Callable[[pytest.MonkeyPatch], None]] = [
        lambda patch: patch.setattr(Configured, "gain", 5.0),
        lambda patch: patch.setitem(Configured.table, "offset", 5.0),
        lambda patch: patch.setattr(torch.nn.Linear, "forward", lambda _module, value: value + 1),
    ]
    with torch.no_grad():
        for count, change in enumerate(changes, 1):
            with monkeypatch.context() as patch:
                change(patch)
                assert_same(fused(x), model(x))
            assert sum(fused.fallbacks.values()) == count
            assert_same(fused(x), model(x))
            assert sum(fused.fallbacks.values()) == count, "what is undone is no difference"


def test_equal_values_put_back_keep_the_program() -> None:
    model, x = Configured().eval(), torch.randn(3, 4)
    fused = fused_module(model, (x,))
    with torch.no_grad():
        model.config["scale"] = float("2")
        model.factors[:] = [float("1"), float("2")]
        model.gain = 3.0
        del model.gain
        assert_same(fused(x), model(x))
    assert not fused.fallbacks


class Tied(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = torch.nn.Linear(4, 4, bias=False)
        self.b = torch.nn.Linear(4, 4, bias=False)
        self.b.weight = self.a.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.b(torch.tanh(self.a(x))) * 2) + 1


@pytest.mark.parametrize("owner", ["a", "b"])
def test_untied_weights_run_the_original(owner: str) -> None:
    model, x = Tied(), torch.randn(3, 4)
    fused = fused_module(model, (x,))
    with torch.no_grad():
        getattr(model, owner).weight = torch.nn.Parameter(torch.randn(4, 4))
        assert_same(fused(x), model(x))
        assert fused.fallbacks == {"b.weight is no longer tied": 1}
        model.a.weight = model.b.weight
        assert_same(fused(x), model(x))
    assert sum(fused.fallbacks.values()) == 1, "tied again, the program is right again"


def test_loading_other_tensors_into_tied_weights_runs_the_original() -> None:
    model, x = Tied(), torch.randn(3, 4)
    fused = fused_module(model, (x,))
    state = {name: torch.randn_like(value) for name, value in model.state_dict().items()}
    fused.load_state_dict(state, assign=True)
    with torch.no_grad():
        assert_same(fused(x), model(x))
    assert fused.fallbacks == {"b.weight is no longer tied": 1}


def test_replaced_tied_weights_that_stay_tied_keep_the_program() -> None:
    model, x = Tied(), torch.randn(3, 4)
    fused = fused_module(model, (x,))
    with torch.no_grad():
        model.a.weight = model.b.weight = torch.nn.Parameter(torch.randn(4, 4))
        assert_same(fused(x), model(x))
    assert not fused.fallbacks


def test_replaced_weights_are_not_kept_alive() -> None:
    model, x = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Tanh()), torch.randn(3, 4)
    fused = fused_module(model, (x,))
    freed: list[bool] = []
    original = model[0].weight
    with torch.no_grad():
        fused(x)
        weakref.finalize(original, freed.append, True)
        model[0].weight = torch.nn.Parameter(torch.randn(4, 4))
        fused(x)
    del original
    assert freed == [True] and not fused.fallbacks


def test_checks_hold_in_and_out_of_inference_mode() -> None:
    model, x = Tied(), torch.randn(3, 4)
    fused = fused_module(model, (x,))
    for _ in range(2):
        with torch.inference_mode():
            assert_same(fused(x), model(x))
        with torch.no_grad():
            assert_same(fused(x), model(x))
    assert not fused.fallbacks
    with torch.inference_mode():
        model.a.weight.data = torch.randn(4, 4).t()
        assert_same(fused(x), model(x))
    assert sum(fused.fallbacks.values()) == 1


def test_mode_is_the_originals() -> None:
    fused = fused_module(torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Tanh()).eval(), (torch.randn(3, 4),))
    assert not fused.training
    fused.original.train()
    assert fused.training
    fused.training = False
    assert not fused.original.training


def test_shallow_copy_has_a_program_of_its_own() -> None:
    x = torch.randn(3, 4)
    fused = fused_module(Tied(), (x,))
    copied = copy.copy(fused)
    assert isinstance(copied, FusedModule) and copied.runner is not fused.runner
    with torch.no_grad():
        assert_same(copied(x), fused(x))
    assert not copied.fallbacks


@pytest.mark.parametrize("change", ["mode", "strides", "child"])
def test_a_deep_copy_of_a_changed_model_runs_the_model(change: str) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Dropout(0.5), torch.nn.Tanh()).eval()
    x = torch.randn(3, 4)
    fused = fused_module(model, x)
    if change == "mode":
        fused.train()
    elif change == "strides":
        model[0].weight = torch.nn.Parameter(torch.randn(4, 4).t())
    else:
        model[2] = torch.nn.Sigmoid()
    again = copy.deepcopy(copy.deepcopy(fused))
    with torch.no_grad():
        torch.manual_seed(3)
        got = again(x)
        torch.manual_seed(3)
        assert torch.equal(got, again.original(x))
    assert sum(again.fallbacks.values()) == 1
