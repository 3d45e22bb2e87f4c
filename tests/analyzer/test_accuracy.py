from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from analyzer.accuracy import Accuracy, collect_outputs, compare_outputs
from analyzer.errors import HotbenchError, WorkloadError
from analyzer.workload import Stepper, Workload, prepare, seeded
from tests.analyzer.variants import affine, trained


def compared(
    folder: Path, b: dict[str, torch.Tensor], a: dict[str, torch.Tensor], max_error: float | None = None
) -> Accuracy:
    save_file(b, folder / "b")
    save_file(a, folder / "a")
    return compare_outputs(folder / "b", folder / "a", inputs=3, max_error=max_error)


def one(tensor: torch.Tensor) -> dict[str, torch.Tensor]:
    return {"outputs/0/1": tensor}


def random(*shape: int, seed: int = 5) -> torch.Tensor:
    return torch.randn(*shape, generator=seeded(seed))


def test_equal_outputs_have_no_error(tmp_path: Path) -> None:
    found = compared(tmp_path, one(random(3, 7)), one(random(3, 7)))
    assert (found.max_abs, found.max_rel, found.agreement, found.passed) == (0.0, 0.0, 1.0, True)
    assert found.cosine == pytest.approx(1.0)


def test_the_relative_error_is_the_largest_gap_over_the_largest_baseline_value(tmp_path: Path) -> None:
    found = compared(tmp_path, one(torch.tensor([[1.0, -8.0]])), one(torch.tensor([[1.5, -8.0]])))
    assert (found.max_abs, found.max_rel) == (0.5, 0.5 / 8)
    assert not found.passed


def test_the_worst_output_counts(tmp_path: Path) -> None:
    b = {"outputs/0/1": torch.tensor([100.0]), "outputs/1/1": torch.tensor([1e-3])}
    a = {"outputs/0/1": torch.tensor([100.0]), "outputs/1/1": torch.tensor([2e-3])}
    assert compared(tmp_path, b, a).max_rel == pytest.approx(1.0)


def test_agreement_is_the_share_of_equal_arg_maxima(tmp_path: Path) -> None:
    b = torch.tensor([[1.0, 2.0], [3.0, 1.0], [0.0, 1.0], [5.0, 4.0]])
    a = torch.tensor([[1.0, 2.0], [3.0, 4.0], [0.0, 1.0], [5.0, 4.0]])
    assert compared(tmp_path, one(b), one(a)).agreement == 0.75


def test_a_vector_of_scalars_has_no_agreement(tmp_path: Path) -> None:
    assert compared(tmp_path, one(torch.tensor(2.0)), one(torch.tensor(2.0))).agreement is None


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5), (torch.float16, 4e-3), (torch.int64, 0.0)]
)
def test_the_dtype_decides_the_tolerance(tmp_path: Path, dtype: torch.dtype, tolerance: float) -> None:
    values = torch.arange(6).to(dtype).reshape(2, 3)
    found = compared(tmp_path, one(values), one(values))
    assert found.tolerance == tolerance
    assert found.tolerance_reason
    assert found.passed


def test_the_callers_limit_replaces_the_tolerance(tmp_path: Path) -> None:
    found = compared(tmp_path, one(torch.tensor([1.0])), one(torch.tensor([1.04])), max_error=0.05)
    assert (found.tolerance, found.passed) == (0.05, True)


def test_special_values_at_the_same_places_pass(tmp_path: Path) -> None:
    values = torch.tensor([math.nan, -math.inf, math.inf, 2.0])
    found = compared(tmp_path, one(values), one(values.clone()))
    assert (found.special_values_match, found.max_rel, found.passed) == (True, 0.0, True)


@pytest.mark.parametrize("wrong", [[1.0, 2.0, 3.0], [math.nan, math.inf, 3.0], [1.0, math.nan, 3.0]])
def test_a_special_value_elsewhere_fails(tmp_path: Path, wrong: list[float]) -> None:
    found = compared(tmp_path, one(torch.tensor([math.nan, 2.0, 3.0])), one(torch.tensor(wrong)))
    assert not found.special_values_match
    assert not found.passed


def test_an_infinity_of_the_other_sign_fails(tmp_path: Path) -> None:
    assert not compared(tmp_path, one(torch.tensor([math.inf, 1.0])), one(torch.tensor([-math.inf, 1.0]))).passed


def test_another_shape_cannot_be_compared(tmp_path: Path) -> None:
    found = compared(tmp_path, one(random(3, 7)), one(random(7, 3)))
    assert not found.passed
    assert found.reason == "outputs/0/1 has shape (7, 3) where the baseline's has (3, 7)"


def test_a_missing_output_cannot_be_compared(tmp_path: Path) -> None:
    both = {"outputs/0/1": random(3), "outputs/1/1": random(3)}
    found = compared(tmp_path, both, one(random(3)))
    assert found.reason == "the candidate gives no outputs/1/1, which the baseline gives (1 such)"


def test_empty_outputs_pass(tmp_path: Path) -> None:
    assert compared(tmp_path, one(torch.empty(0, 5)), one(torch.empty(0, 5))).passed


def test_a_zero_baseline_makes_any_error_infinite(tmp_path: Path) -> None:
    found = compared(tmp_path, one(torch.zeros(3)), one(torch.full((3,), 1e-30)))
    assert found.max_rel == math.inf
    assert found.cosine == 0.0


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 40), st.floats(1e-7, 10.0))
def test_scaling_by_a_factor_gives_that_relative_error(
    tmp_path_factory: pytest.TempPathFactory, n: int, by: float
) -> None:
    b = random(n, seed=n).to(torch.float64)
    found = compared(tmp_path_factory.mktemp("scale"), one(b), one(b * (1 + by)))
    assert found.max_rel == pytest.approx(by, rel=1e-6)
    assert found.cosine == pytest.approx(1.0)


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "b").write_bytes(b"nothing")
    with pytest.raises(HotbenchError, match="cannot read the outputs"):
        compare_outputs(tmp_path / "b", tmp_path / "b", inputs=1)


def test_outputs_of_a_step_travel_whole(tmp_path: Path) -> None:
    stepper = Stepper(affine({}))
    assert collect_outputs(stepper, (1, 2, 3), tmp_path / "a") == 6
    collect_outputs(stepper, (1, 2, 3), tmp_path / "b")
    assert compare_outputs(tmp_path / "b", tmp_path / "a", inputs=3).max_abs == 0.0


def test_training_compares_losses_and_parameters(tmp_path: Path) -> None:
    torch.manual_seed(0)
    count = collect_outputs(Stepper(trained({})), (1, 2, 3), tmp_path / "b")
    torch.manual_seed(0)
    collect_outputs(Stepper(trained({})), (1, 2, 3), tmp_path / "a")
    torch.manual_seed(0)
    collect_outputs(Stepper(trained({"lr": 0.1})), (1, 2, 3), tmp_path / "other")
    assert count == 3 + 4
    same = compare_outputs(tmp_path / "b", tmp_path / "a", inputs=3)
    assert (same.max_abs, same.agreement) == (0.0, None)
    assert not compare_outputs(tmp_path / "b", tmp_path / "other", inputs=3).passed


def test_odd_kinds_of_tensors_travel(tmp_path: Path) -> None:
    def step(model: torch.nn.Module, batch: object) -> object:
        dense = random(4, 6)
        shared = dense.t()
        return {
            "complex": torch.complex(dense, dense),
            "view": shared,
            "sparse": dense.relu().to_sparse(),
            "flag": True,
        }

    workload = Workload(torch.nn.Identity(), lambda seed: ((), {}), step=step)
    prepare(workload)
    assert collect_outputs(Stepper(workload), (1,), tmp_path / "a") == 4
    assert compare_outputs(tmp_path / "a", tmp_path / "a", inputs=1).passed


def test_a_step_without_outputs_is_refused(tmp_path: Path) -> None:
    workload = Workload(torch.nn.Identity(), lambda seed: ((), {}), step=lambda model, batch: None)
    prepare(workload)
    with pytest.raises(WorkloadError, match="returns no tensor"):
        collect_outputs(Stepper(workload), (1,), tmp_path / "a")
