"""Compiled loops from end to end: against eager and float64, on awkward sizes, exported, rebuilt, never a loss."""

from __future__ import annotations

import copy
import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import hotbench
from analyzer.record import to_plain
from examples.gru_variant import GRUVariant
from examples.lstm import SequenceClassifier, UnrolledLSTM
from optimizers.fusion import api
from optimizers.fusion.accuracy import difference
from optimizers.fusion.api import Fused, build, fuse_measured
from optimizers.fusion.capture import capture
from optimizers.fusion.export import artifact_files
from optimizers.fusion.graph import Lowered
from optimizers.fusion.module import FusedModule
from optimizers.fusion.optimizer import decisions
from optimizers.fusion.program import Program, build_program
from optimizers.fusion.runtime import Runner
from optimizers.fusion.timing import Comparison
from optimizers.plan import Refusal
from tests.optimizers.fusion.interpreted import assert_same


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.no_grad():
        yield
    torch.set_num_threads(before)


def compiled(model: torch.nn.Module, x: torch.Tensor) -> FusedModule:
    captured = capture(model, (x,), {})
    program, kernels = build(captured, rolled=True)
    assert program.loops
    return FusedModule(model, captured, Runner(program, kernels))


def errors(fused: FusedModule, model: torch.nn.Module, x: torch.Tensor) -> tuple[float, float]:
    """The errors of fused and eager outputs against float64: means over eight inputs, since one is luck."""
    exact, found = copy.deepcopy(model).double(), []
    for given in (x, *(torch.randn_like(x) for _ in range(7))):
        wanted = [exact(given.double())]
        found.append([difference([run(given).double()], wanted, 1.0).max_rel for run in (fused, model)])
    ours, eagers = torch.tensor(found).mean(0).tolist()
    return ours, eagers


@pytest.mark.parametrize(("batch", "hidden"), [(1, 37), (5, 16)])
def test_lstm_is_as_near_float64_as_eager(batch: int, hidden: int) -> None:
    model, x = UnrolledLSTM(11, hidden), torch.randn(batch, 7, 11)
    fused = compiled(model, x)
    ours, eagers = errors(fused, model, x)
    assert ours <= 2 * eagers + 1e-7
    for value in (float("nan"), float("inf"), 1e-40):
        x[0, 3, 2] = value
        assert_same(fused(x), model(x))
    assert not fused.fallbacks


def test_two_layer_gru_variant_with_weights_replaced_and_changed() -> None:
    model, x = GRUVariant(9, 19), torch.randn(1, 4, 9)
    fused = compiled(model, x)
    assert_same(fused(x), model(x))
    model.second.weight_hidden.data.mul_(-1.5)
    model.first.weight_hidden = torch.nn.Parameter(torch.randn(57, 19))
    assert_same(fused(x), model(x))
    ours, eagers = errors(fused, model, x)
    assert ours <= 2 * eagers + 1e-7 and not fused.fallbacks


def test_last_state_alone_feeds_the_rest_of_the_model() -> None:
    model, x = SequenceClassifier(6, 21, 3), torch.randn(4, 5, 6)
    fused = compiled(model, x)
    assert_same(fused(x), model(x))


def exported(fused: FusedModule, x: torch.Tensor, folder: Path) -> None:
    files = artifact_files(fused, (x,), {})

    digests = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    manifest = {"kind": "artifact", "format_version": 1, "files": digests}
    for name, data in {**files, "manifest.json": json.dumps(manifest).encode()}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def test_choice_is_recorded_repeats_and_is_exported(tmp_path: Path) -> None:
    model, x = UnrolledLSTM(8, 16), torch.randn(2, 40, 8)
    fused = fuse_measured(model, (x,), {}, min_gain=-100.0)
    assert isinstance(fused, Fused) and fused.rolled, fused
    assert fused.accuracy.max_rel < 1e-5
    record: Any = to_plain(decisions(fused))
    assert record["rolled"] and record["loops"][0]["trips"] == 40
    program, _ = build(fused.captured, fused.excluded, fused.rolled)
    assert program.digest() == record["program"]
    exported(fused.module, x, tmp_path)
    environment = {"HOTBENCH_CACHE": str(tmp_path / "cache"), "PATH": "/usr/bin", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-I", str(tmp_path / "load.py")], capture_output=True, text=True, env=environment, timeout=300
    )
    assert done.returncode == 0 and '"max_abs_error": 0.0' in done.stdout, done.stdout + done.stderr


def test_slower_or_wrong_loops_are_not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = UnrolledLSTM(5, 6), torch.randn(1, 5, 5)
    slower = Comparison(0.001, 0.0011, 0.9, 0.8, 1.1, 9)
    with monkeypatch.context() as patch:
        patch.setattr(api, "compare", lambda *_, **__: slower)
        patch.setattr(api, "surely_faster", lambda *_: False)
        patch.setattr(api, "choose_regions", lambda *_: [])
        answer = fuse_measured(model, (x,), {}, min_gain=-100.0)
        assert isinstance(answer, Fused) and not answer.rolled
    faster = Comparison(0.001, 0.0005, 2.0, 1.9, 2.1, 9)
    verified = iter((difference([x], [x + 1]), difference([x], [x])))
    monkeypatch.setattr(api, "compare", lambda *_, **__: faster)
    monkeypatch.setattr(api, "choose_regions", lambda *_: [])
    monkeypatch.setattr(api, "verify", lambda *_: next(verified))
    answer = fuse_measured(model, (x,), {})
    assert not isinstance(answer, Refusal) and not answer.rolled


def test_what_building_raises_becomes_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = UnrolledLSTM(5, 6), torch.randn(1, 5, 5)

    def broken(*_: Any) -> Any:
        raise IndexError("tuple index\nout of range")

    with monkeypatch.context() as patch:
        patch.setattr(api, "build_program", broken)
        answer = api.fuse(model, (x,))
        assert isinstance(answer, Refusal)
        assert answer.reason == "building its program raised IndexError: tuple index out of range"
        assert hotbench.optimize(model, x) is model
    monkeypatch.setattr(api, "choose_regions", broken)
    answer = api.fuse(model, (x,))
    assert isinstance(answer, Refusal) and "fusing it raised IndexError: tuple index out of range" in answer.reason
    assert hotbench.optimize(model, x) is model


def test_loops_that_cannot_be_built_leave_the_program_without_them(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(lowered: Lowered, title: str, rolled: bool) -> Program:
        if rolled:
            raise KeyError(3)
        return build_program(lowered, title)

    monkeypatch.setattr(api, "build_program", broken)
    answer = fuse_measured(UnrolledLSTM(5, 6), (torch.randn(1, 5, 5),), {}, min_gain=-100.0)
    assert isinstance(answer, Fused) and not answer.rolled
