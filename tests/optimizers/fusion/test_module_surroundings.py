"""Where ops of the model must be seen one by one, or the module is stored, the original stands in for the program."""

from __future__ import annotations

import io
import pickle
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.autograd import forward_ad
from torch.fx.experimental.proxy_tensor import make_fx
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from optimizers.fusion.module import FusedModule
from tests.optimizers.fusion.interpreted import assert_same, fused_module


def _fused(x: torch.Tensor) -> FusedModule:
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Tanh(), torch.nn.Softmax(-1))
    fused = fused_module(model.eval().requires_grad_(False), (x,))
    assert_same(fused(x), model(x))
    assert not fused.fallbacks
    return fused


def _under_function_mode(call: Callable[..., Any], x: torch.Tensor) -> Any:
    seen: Counter[str] = Counter()

    class Seen(TorchFunctionMode):
        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            seen[getattr(function, "__name__", "")] += 1
            return function(*args, **(kwargs or {}))

    with Seen():
        call(x)
    return torch.tensor([seen["linear"], seen["tanh"], seen["softmax"]])


def _flops(call: Callable[..., Any], x: torch.Tensor) -> Any:
    with FlopCounterMode(display=False) as counter:
        call(x)
    return torch.tensor(counter.get_total_flops())


def _tangent(call: Callable[..., Any], x: torch.Tensor) -> Any:
    with forward_ad.dual_level():
        return forward_ad.unpack_dual(call(forward_ad.make_dual(x, torch.ones_like(x)))).tangent


SURROUNDINGS: dict[str, tuple[str, Callable[[Any, torch.Tensor], Any]]] = {
    "dispatch mode": ("a torch dispatch mode", _flops),
    "function mode": ("a torch function mode", _under_function_mode),
    "make_fx": ("a torch dispatch mode", lambda call, x: make_fx(call)(x)(x * 2)),
    "vmap": ("a functorch transform", lambda call, x: torch.func.vmap(call)(torch.stack([x, x * 2]))),
    "jvp": ("a functorch transform", lambda call, x: torch.func.jvp(call, (x,), (torch.ones_like(x),))),
    "grad": ("a functorch transform", lambda call, x: torch.func.grad(lambda v: call(v).square().sum())(x)),
    "forward AD": ("forward-mode differentiation", _tangent),
    "jit trace": ("jit tracing", lambda call, x: torch.jit.trace(call, (x,), check_trace=False)(x * 2)),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("surrounding", SURROUNDINGS)
def test_surroundings_that_see_each_op_get_the_originals(surrounding: str) -> None:
    x = torch.randn(3, 4)
    fused = _fused(x)
    reason, use = SURROUNDINGS[surrounding]
    assert_same(use(fused, x), use(fused.original, x))
    assert set(fused.fallbacks) == {reason}
    fused.fallbacks.clear()
    assert_same(fused(x * 3), fused.original(x * 3))
    assert not fused.fallbacks


def test_compilers_and_export_read_the_original() -> None:
    x = torch.randn(3, 4)
    fused = _fused(x)
    compiled = torch.compile(fused, backend="eager", fullgraph=True)
    exported = torch.export.export(fused, (x,))
    assert_same(compiled(x * 2), fused.original(x * 2))
    assert_same(exported.module()(x * 2), fused.original(x * 2))
    assert {"addmm", "linear"} & {
        node.target.__name__.split(".")[0] for node in exported.graph.nodes if node.op == "call_function"
    }
    fused.fallbacks.clear()
    assert_same(fused(x * 3), fused.original(x * 3))
    assert not fused.fallbacks


def test_default_device_cpu_keeps_the_program_and_another_does_not() -> None:
    x = torch.randn(3, 4)
    fused = _fused(x)
    with torch.device("cpu"):
        assert_same(fused(x), fused.original(x))
    assert not fused.fallbacks
    with torch.device("meta"):
        fused(x)
    assert fused.fallbacks == {"a torch function mode": 1}


@pytest.mark.parametrize("register", ["register_module_forward_hook", "register_module_forward_pre_hook"])
def test_global_hooks_see_every_module_of_the_original(register: str) -> None:
    x = torch.randn(3, 4)
    fused = _fused(x)
    seen: list[torch.nn.Module] = []
    handle = getattr(torch.nn.modules.module, register)(lambda module, *_: seen.append(module))
    try:
        fused(x)
    finally:
        handle.remove()
    assert {*fused.original.modules()} <= {*seen} and fused.fallbacks == {"global forward hooks": 1}


def test_pickling_and_saving_store_the_original() -> None:
    x = torch.randn(3, 4)
    fused = _fused(x)
    stream = io.BytesIO()
    torch.save({"inside": torch.nn.Sequential(fused)}, stream)
    stream.seek(0)
    saved = torch.load(stream, weights_only=False)["inside"][0]
    for loaded in (saved, pickle.loads(pickle.dumps(fused))):
        assert type(loaded) is torch.nn.Sequential
        assert_same(loaded(x), fused.original(x))
        assert_same(fused_module(loaded, (x,))(x), fused(x))


def test_a_saved_module_loads_without_hotbench(tmp_path: Path) -> None:
    x = torch.randn(3, 4)
    fused = _fused(x)
    path = tmp_path / "saved.pt"
    torch.save(fused, path)
    code = f"import torch; print(type(torch.load({str(path)!r}, weights_only=False)).__name__)"
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "Sequential"
