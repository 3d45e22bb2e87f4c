"""Programs from the cache: used for the same computation only, checked and timed anew, never half of one."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from kernels.compiler.cache import publish
from optimizers.fusion import api, backend_remembered, stored
from optimizers.fusion.api import fuse
from optimizers.fusion.backend import HotbenchBackend
from optimizers.fusion.module import FusedModule
from optimizers.fusion.program import Program
from optimizers.fusion.stored import StoredProgram
from optimizers.fusion.timing import Comparison
from optimizers.plan import Refusal
from tests.optimizers.fusion.interpreted import assert_same

ROOT = Path(__file__).parents[3]


class Scaled(torch.nn.Module):
    """[rows, 33] -> [rows, 33]."""

    def __init__(self, factor: float = 2.0) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(33))
        self.factor = factor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(x * self.weight) * self.factor + torch.sigmoid(x)


class Shifted(Scaled):
    """The same attributes, other code."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(x * self.weight) * self.factor - torch.sigmoid(x)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def searches(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that gets an item for each model that is fused anew."""
    found: list[str] = []
    original = api._fuse

    def fuse_anew(model: torch.nn.Module, *rest: Any) -> Any:
        found.append(type(model).__name__)
        return original(model, *rest)

    monkeypatch.setattr(api, "_fuse", fuse_anew)
    return found


def fused(model: torch.nn.Module, *inputs: torch.Tensor) -> FusedModule:
    answer = fuse(model, inputs, min_gain=-100.0)
    assert isinstance(answer, FusedModule), answer
    return answer


def assert_right(module: FusedModule, model: torch.nn.Module) -> None:
    x = torch.randn(21, 33)
    with torch.no_grad():
        assert_same(module(x), model(x))
    assert not module.fallbacks


def entry_of(decided: Path) -> Path:
    (entry,) = decided.iterdir()
    return entry


def test_equal_computation_takes_the_program_and_its_own_weights(searches: list[str]) -> None:
    first, second = Scaled(), Scaled()
    made = fused(first, torch.randn(21, 33))
    again = fused(second, torch.randn(21, 33))
    assert searches == ["Scaled"] and isinstance(again.runner.program, StoredProgram)
    assert made.runner.program.source == again.runner.program.source
    assert_right(made, first)
    assert_right(again, second)
    with torch.no_grad():
        second.weight.mul_(-3.0)
    assert_right(again, second)
    assert "1.00x" not in again.summary and "kernel calls" in again.summary and again.measured


@pytest.mark.parametrize("other", [Scaled(3.0), Shifted(), Scaled(2)])
def test_another_scalar_or_other_code_is_fused_anew(other: torch.nn.Module, searches: list[str]) -> None:
    fused(Scaled(), torch.randn(21, 33))
    assert_right(fused(other, torch.randn(21, 33)), other)
    assert len(searches) == 2


def test_another_layout_dtype_or_number_of_threads_is_fused_anew(searches: list[str]) -> None:
    fused(Scaled(), torch.randn(21, 33))
    fused(Scaled(), torch.randn(33, 21).t())
    fused(Scaled(), torch.randn(22, 33))
    torch.set_num_threads(2)
    fused(Scaled(), torch.randn(21, 33))
    assert len(searches) == 4


@pytest.mark.parametrize("changed", ["toolchain", "_code_hash"])
def test_another_version_or_machine_finds_nothing(
    changed: str, searches: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fused(Scaled(), torch.randn(21, 33))
    monkeypatch.setattr(stored, changed, lambda: "another" if changed == "_code_hash" else ("another",))
    fused(Scaled(), torch.randn(21, 33))
    assert len(searches) == 2


def _cut_program(entry: Path) -> None:
    (entry / "program.py").write_text((entry / "program.py").read_text()[:-20])


def _lose_decision(entry: Path) -> None:
    (entry / "decision.json").unlink()


def _no_json(entry: Path) -> None:
    _rewritten(entry, "decision.json", "{")


def _foreign_json(entry: Path) -> None:
    _rewritten(entry, "decision.json", '{"kernels": ["a"], "arena_bytes": "many"}')


def _lost_kernel(entry: Path) -> None:
    decision = json.loads((entry / "decision.json").read_text())
    decision["kernels"] = dict.fromkeys(decision["kernels"], "0" * 24)
    _rewritten(entry, "decision.json", json.dumps(decision))


def _wrong_program(entry: Path) -> None:
    source = (entry / "program.py").read_text()
    _rewritten(
        entry, "program.py", source.replace("    return run\n", "    return lambda *x: tuple(-v for v in run(*x))\n")
    )


def _raising_program(entry: Path) -> None:
    _rewritten(entry, "program.py", "def bind(*_):\n    raise MemoryError\n")


def _no_python(entry: Path) -> None:
    _rewritten(entry, "program.py", "def bind(:")


def _shapeless_constant(entry: Path) -> None:
    decision = json.loads((entry / "decision.json").read_text())
    decision["constants"] = [{"dtype": "float32", "shape": [7], "values": [1.0, 2.0]}]
    _rewritten(entry, "decision.json", json.dumps(decision))


def _rewritten(entry: Path, name: str, text: str) -> None:
    """Change a file so that the entry still looks whole."""
    (entry / name).write_text(text)
    (entry / "manifest.json").unlink()
    moved = entry.with_name("moved")
    entry.rename(moved)
    publish(moved, entry)


@pytest.mark.parametrize(
    "damage",
    [
        _cut_program,
        _lose_decision,
        _no_json,
        _foreign_json,
        _lost_kernel,
        _wrong_program,
        _raising_program,
        _no_python,
        _shapeless_constant,
    ],
)
def test_damaged_entry_is_replaced_and_the_results_are_right(damage: Any, decided: Path, searches: list[str]) -> None:
    fused(Scaled(), torch.randn(21, 33))
    damage(entry_of(decided))
    model = Scaled()
    assert_right(fused(model, torch.randn(21, 33)), model)
    assert len(searches) == 2
    assert_right(fused(model, torch.randn(21, 33)), model)
    assert len(searches) == 2, "the new entry is whole"


def test_folder_that_cannot_be_written_costs_nothing_but_time(decided: Path, searches: list[str]) -> None:
    decided.write_text("a file where the folder should be")
    model = Scaled()
    for _ in range(2):
        assert_right(fused(model, torch.randn(21, 33)), model)
    assert len(searches) == 2


def test_stored_program_is_held_against_the_model_itself(searches: list[str]) -> None:
    class Otherwise(Scaled):
        """Computes something else where it is not compiled."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) + (0.0 if type(x) is not torch.Tensor else self.factor)

    fused(Scaled(0.5), torch.randn(21, 33))
    assert isinstance(fuse(Otherwise(0.5), (torch.randn(21, 33),), min_gain=-100.0), Refusal)


def test_stored_program_that_is_slower_now_is_refused(searches: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    fused(Scaled(), torch.randn(21, 33))
    monkeypatch.setattr(api, "compare", lambda *_, **__: Comparison(0.0015, 0.00152, 0.987, 0.97, 1.01, 9))
    answer = fuse(Scaled(), (torch.randn(21, 33),))
    assert isinstance(answer, Refusal) and "0.99x" in answer.reason and len(searches) == 1


def test_what_a_stored_program_was_made_of_is_built_again() -> None:
    made = fused(Scaled(), torch.randn(21, 33)).runner.program
    again = fused(Scaled(), torch.randn(21, 33)).runner.program
    assert isinstance(made, Program) and isinstance(again, StoredProgram)
    assert again.kernels == made.kernels and again.digest() == made.digest()
    assert [d.kind for d in again.lowered.definitions] == [d.kind for d in made.lowered.definitions]
    with pytest.raises(AttributeError, match="nonsense"):
        again.nonsense  # noqa: B018


def test_constants_come_back_exactly(searches: list[str]) -> None:
    class Constant(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            table = torch.tensor([0.1, float("inf"), -0.0, 1e-42])
            return torch.tanh(x) * table + 1

    x = torch.rand(5, 4) + 1
    for _ in range(2):
        module = fused(Constant(), x)
        with torch.no_grad():
            assert_same(module(x), Constant()(x))
    assert len(searches) == 1


_FRESH = """
import sys, torch
torch.set_num_threads(1)
from pathlib import Path
from optimizers.fusion import api, stored
SCALED
stored._folder = lambda: Path(sys.argv[1])
stored._code_hash = lambda: sys.argv[2]
api._fuse = None
model, x = Scaled(), torch.randn(21, 33)
module = api.fuse(model, (x,), min_gain=-100.0)
assert isinstance(module, torch.nn.Module), module
with torch.no_grad():
    assert torch.allclose(module(x), model(x), atol=1e-6)
print(type(module).__name__, [name for name in ("sympy", "torch._dynamo", "scipy.linalg") if name in sys.modules])
"""


def test_fresh_process_needs_neither_compiler_nor_tracer(decided: Path) -> None:
    fused(Scaled(), torch.randn(21, 33))
    script = _FRESH.replace("SCALED", inspect.getsource(Scaled))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script, str(decided), stored._code_hash()],
        capture_output=True,
        text=True,
        env=environment,
        timeout=300,
    )
    assert done.returncode == 0 and done.stdout == "FusedModule []\n", done.stdout + done.stderr


def test_graph_of_torch_compile_is_found_again(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(21, 33)

    def compiled() -> tuple[torch.Tensor, HotbenchBackend]:
        torch._dynamo.reset()
        torch.manual_seed(3)
        model, backend = Scaled(), HotbenchBackend()
        result = torch.compile(model, backend=backend)(x)
        result.sum().backward()
        assert model.weight.grad is not None
        return torch.cat([result.detach().flatten(), model.weight.grad]), backend

    first, _ = compiled()

    def measured(*_: Any) -> Any:
        raise AssertionError("it is chosen anew")

    monkeypatch.setattr(backend_remembered, "measured", measured)
    second, backend = compiled()
    torch._dynamo.reset()
    assert_same(second, first)
    assert not any(decision.failed for decision in backend.decisions)
