"""What a plan says before anything is applied: regions of forward and backward, reasons, and how long it will take."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from analyzer.diagnosis.finding import Diagnosis
from analyzer.measurement import Estimate
from optimizers.fusion import lower  # noqa: F401  (fills the table of handlers)
from optimizers.fusion.compile_cost import MOST, Size, predict_apply, read_history, remember
from optimizers.fusion.lowering import HANDLERS
from optimizers.fusion.optimizer import Fusion, FusionOptions
from optimizers.fusion.plan_ops import CONVOLUTIONS, KERNELS, PRODUCTS, RANDOM, VIEWS, base, why_library
from optimizers.plan import Plan
from tests.synthetic import Call, make_run

DIAGNOSIS = Diagnosis("diagnosis-0", "run-0", ())


def _plan(names: list[str], phases: list[str] | None = None, dtype: str = "") -> Plan:
    run = make_run([Call(name, 5e-6, (k - 1,) if k else ()) for k, name in enumerate(names)])
    ops = [dataclasses.replace(op, phase=phases[k] if phases else op.phase) for k, op in enumerate(run.graph.ops)]
    tensors = [dataclasses.replace(t, dtype=dtype or t.dtype) for t in run.graph.tensors]
    graph = dataclasses.replace(run.graph, ops=tuple(ops), tensors=tuple(tensors))
    answer = Fusion().plan(dataclasses.replace(run, graph=graph), DIAGNOSIS, FusionOptions())
    assert isinstance(answer, Plan), answer
    return answer


def test_every_op_that_is_lowered_is_known_to_the_plan() -> None:
    unknown = set(HANDLERS) - KERNELS - VIEWS - PRODUCTS - CONVOLUTIONS - RANDOM
    assert not {name for name in unknown if "unsupported" in why_library(f"aten::{name}")}


def test_in_place_ops_are_the_ops_that_they_are() -> None:
    assert base("aten::add_") == "add" and base("aten::__and__") == "__and__" and base("tanh") == "tanh"


def test_backward_ops_are_stretches_of_their_own() -> None:
    names = ["aten::tanh", "aten::mul", "aten::tanh_backward", "aten::mul", "aten::add_", "aten::mul_"]
    phases = ["forward", "forward", "backward", "backward", "backward", "optimizer"]
    plan = _plan(names, phases)
    taken = {target.ops for target in plan.targets if not target.refusal}
    assert taken == {(0, 1), (2, 3, 4)}
    left = [target for target in plan.targets if target.refusal]
    assert [target.ops for target in left] == [(5,)] and "optimizer's step" in left[0].refusal


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("aten::nonzero", "dynamic shape"),
        ("aten::conv2d", "the library is faster"),
        ("aten::linear", "the library is faster"),
        ("aten::fft_fft", "unsupported op"),
        ("aten::bernoulli_", "random numbers"),
    ],
)
def test_what_is_left_alone_has_its_own_reason(name: str, words: str) -> None:
    plan = _plan(["aten::add", "aten::mul", name, "aten::add", "aten::tanh"])
    left = [target for target in plan.targets if target.refusal]
    assert [words in target.refusal for target in left] == [True]


def test_a_dtype_without_kernels_is_a_reason() -> None:
    run = make_run([Call("aten::add", 5e-6, ()), Call("aten::mul", 5e-6, (0,))])
    graph = dataclasses.replace(
        run.graph, tensors=tuple(dataclasses.replace(t, dtype="bfloat16") for t in run.graph.tensors)
    )
    answer = Fusion().plan(dataclasses.replace(run, graph=graph), DIAGNOSIS, FusionOptions())
    assert not isinstance(answer, Plan)


def test_a_plan_says_how_long_applying_takes() -> None:
    few, many = _plan(["aten::add", "aten::mul"]), _plan(["aten::add", "aten::mul"] * 300)
    for plan in (few, many):
        assert plan.compile_seconds is not None and plan.compile_seconds.unit == "s"
        assert all(t.compile_seconds is not None for t in plan.targets if not t.refusal)
    assert few.compile_seconds is not None and many.compile_seconds is not None
    assert many.compile_seconds.mid > few.compile_seconds.mid


def test_earlier_applications_correct_the_prediction(tmp_path: Path) -> None:
    size = Size(1000, 10)
    before = predict_apply(size, read_history(tmp_path))
    assert "earlier application" not in before.basis
    for _ in range(MOST + 5):
        remember(predict_apply(size, read_history(tmp_path)), 3.0 * before.mid, tmp_path)
    history = read_history(tmp_path)
    after = predict_apply(size, history)
    assert len(history) == MOST and after.mid == pytest.approx(3.0 * before.mid, rel=0.01)
    assert "20 earlier applications" in after.basis


@pytest.mark.parametrize("text", ["", "{}", "[1, 'x'", '["a", null, -3, 1e99]'])
def test_a_corrupt_record_of_times_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "apply_seconds.json").write_text(text)
    assert read_history(tmp_path) == ()


def test_short_or_unexpected_applications_are_not_remembered(tmp_path: Path) -> None:
    remember(None, 10.0, tmp_path)
    remember(Estimate(1.0, 2.0, 3.0, "s", "test"), 0.3, tmp_path)
    assert read_history(tmp_path) == ()
