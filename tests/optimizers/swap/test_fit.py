"""A fitted step keeps its budget, its predicted memory and, to the bit, its answers."""

from __future__ import annotations

import random
import re
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

import hotbench
from analyzer.errors import RecordError
from analyzer.peak import peak_live_bytes
from analyzer.workload import Stepper, Workload, load_workload, seed_everything, seeded
from optimizers.swap.errors import SwapError
from optimizers.swap.fit import fit
from optimizers.swap.moves import Tier
from optimizers.swap.plan_file import apply_plan
from optimizers.swap.swap_file import SwapFile
from tests.optimizers.swap.training_models import SHAPES, training, weights_after


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def smallest(workload: Workload, **options: object) -> int:
    """Return the smallest budget that works, from the words of the refusal."""
    with pytest.raises(SwapError, match="the smallest that works is") as refused:
        fit(workload, 1, **options)  # type: ignore[arg-type]
    return int(str(refused.value).split("works is ")[1].split(";")[0])


@pytest.mark.parametrize(
    ("name", "allow"),
    [
        ("attentive", ("swap",)),
        ("attentive", ("recompute",)),
        ("convolutional", ("swap", "recompute")),
        ("recurrent", ("swap", "recompute")),
    ],
)
def test_weights_are_the_same_to_the_bit_at_the_smallest_budget(name: str, allow: tuple[str, ...]) -> None:
    steps = 8 if name == "attentive" else 20
    plain = weights_after(training(name), steps)
    workload = training(name)
    budget = smallest(workload, allow=allow)
    with fit(workload, budget, allow=allow) as fitted:
        assert weights_after(fitted.workload, steps) == plain
        assert not fitted.engine.drifted
        assert not fitted.engine.trouble
    assert fitted.plan.moves or fitted.report.peak_bytes_before <= budget


def test_twenty_steps_of_a_transformer_with_dropout_end_in_the_same_weights(example_path: Callable[[str], str]) -> None:
    def built() -> Workload:
        return load_workload(example_path("transformer.py:training"))[0]

    plain = weights_after(built(), 20)
    workload = built()
    with fit(workload, smallest(workload)) as fitted:
        assert weights_after(workload, 20) == plain
        assert not fitted.engine.drifted
        assert not fitted.engine.trouble
    assert fitted.plan.moves
    assert fitted.report.peak_bytes_measured < fitted.report.peak_bytes_before


def peaks_at(name: str, budget: int) -> tuple[float, int]:
    """Return the predicted and the measured peak. Nothing of it lives on: what lives in this process counts."""
    workload = training(name)
    with fit(workload, budget) as fitted:
        measured = peak_live_bytes(Stepper(workload))
        assert fitted.report.peak_bytes_measured <= budget
        return fitted.report.predicted_peak.mid, measured


@pytest.mark.parametrize("name", SHAPES)
def test_measured_peaks_keep_random_budgets_and_the_simulator_knows_them(name: str) -> None:
    low = smallest(training(name))
    errors = []
    for _ in range(2):
        budget = random.randint(low, 3 * low // 2)
        predicted, measured = peaks_at(name, budget)
        assert measured <= budget
        errors.append(abs(predicted / measured - 1))
    assert statistics.median(errors) <= 0.03


def test_trials_leave_model_optimizer_and_random_state_as_they_were() -> None:
    plain = weights_after(training("attentive"), 3)
    workload = training("attentive")
    before = torch.get_rng_state()
    with fit(workload, "97%"):
        pass
    assert torch.equal(torch.get_rng_state(), before)
    assert not workload.optimizer.state  # type: ignore[union-attr]
    assert weights_after(workload, 3) == plain


def test_a_budget_above_the_peak_moves_nothing() -> None:
    with fit(training("recurrent"), "1GiB") as fitted:
        assert not fitted.plan.moves
        assert fitted.report.peak_bytes_measured == fitted.report.peak_bytes_before


def test_the_measured_course_reaches_the_measured_peak() -> None:
    with fit(training("attentive"), "96%") as fitted:
        assert max(fitted.measured_bytes) == fitted.report.peak_bytes_measured


@pytest.mark.parametrize("budget", ["", "lots", "-3", "12parsec", "0%", 0, True, "1e9", "nan"])
def test_what_is_no_budget_is_refused_in_one_line(budget: int | str) -> None:
    with pytest.raises(SwapError, match="budget") as refused:
        fit(training("recurrent"), budget)
    assert "\n" not in str(refused.value)


def test_a_model_needs_inputs_loss_and_optimizer() -> None:
    with pytest.raises(SwapError, match="needs inputs, loss, optimizer, too"):
        fit(torch.nn.Linear(2, 2), "60%")


def test_a_model_alone_is_fitted_as_its_workload_is() -> None:
    given = training("attentive")
    fitted = hotbench.fit(given.model, "97%", inputs=given.inputs, loss=given.loss, optimizer=given.optimizer)
    assert fitted.model is given.model
    assert fitted.report.peak_bytes_measured <= fitted.report.budget_bytes
    fitted.close()


def test_inference_is_refused() -> None:
    with pytest.raises(SwapError, match="does not train"):
        fit(Workload(model=torch.nn.Linear(2, 2), inputs=(torch.ones(1, 2),)), "60%")


def test_compiled_and_parallel_models_are_refused_in_words() -> None:
    workload = training("recurrent")
    workload.model.compile()
    with pytest.raises(SwapError, match=r"torch\.compile"):
        fit(workload, "90%")
    wrapped = training("recurrent")
    wrapped.model = torch.nn.DataParallel(wrapped.model)
    with pytest.raises(SwapError, match="several processes"):
        fit(wrapped, "90%")


def test_a_model_that_is_not_on_the_cpu_is_refused_by_its_device() -> None:
    with pytest.raises(SwapError, match="the model is on meta"):
        fit(torch.nn.Linear(2, 2, device="meta"), "90%", inputs=(), loss=len,
            optimizer=torch.optim.SGD([torch.zeros(1, requires_grad=True)]))  # fmt: skip


def test_unknown_tiers_and_methods_are_named() -> None:
    with pytest.raises(SwapError, match="no tier 'tape'"):
        fit(training("recurrent"), "90%", tiers=("tape",))
    with pytest.raises(SwapError, match="name at least one of swap, recompute"):
        fit(training("recurrent"), "90%", allow=("forget",))
    with pytest.raises(SwapError, match="in host memory already"):
        fit(training("recurrent"), "90%", tiers=("host",), allow=("swap",))


def test_a_folder_in_memory_or_missing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SwapError, match="no folder"):
        fit(training("recurrent"), "90%", folder=tmp_path / "missing")
    if Path("/dev/shm").is_dir():
        with pytest.raises(SwapError, match="lies in memory"):
            fit(training("recurrent"), "90%", folder="/dev/shm")


def test_a_disk_that_takes_no_more_stops_the_fit_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: SwapFile, *where: object) -> None:
        raise OSError(28, "No space left on device")

    def calibrated(folder: Path) -> Tier:
        monkeypatch.setattr(SwapFile, "write", full)
        return Tier("disk", 1e9, 1e9)

    plain = weights_after(training("recurrent"), 2)
    monkeypatch.setattr("optimizers.swap.fit.calibrate_folder", calibrated)
    workload = training("recurrent")
    with pytest.raises(SwapError, match=r"cannot be written .*No space left.*; free space in .*, or name another"):
        fit(workload, "60%", folder=tmp_path)
    assert weights_after(workload, 2) == plain
    assert not list(tmp_path.iterdir())


def test_a_saved_plan_applies_to_the_same_model_and_to_no_other(tmp_path: Path) -> None:
    plain = weights_after(training("attentive"), 4)
    workload = training("attentive")
    with fit(workload, smallest(workload)) as fitted:
        path = fitted.save(tmp_path / "plan.json")
    fresh = training("attentive")
    engine = hotbench.apply_plan(path, fresh.model, fresh.optimizer)
    assert weights_after(fresh, 4) == plain
    assert not engine.drifted
    engine.close()
    other = training("recurrent")
    with pytest.raises(SwapError, match="for another model"):
        apply_plan(path, other.model, other.optimizer)
    path.write_text("{}")
    with pytest.raises(RecordError, match="no swap plan"):
        apply_plan(path, fresh.model)
    with pytest.raises(RecordError, match="cannot read the plan"):
        apply_plan(tmp_path / "none.json", fresh.model)


def test_a_plan_that_cannot_be_saved_leaves_nothing(tmp_path: Path) -> None:
    with fit(training("recurrent"), "99%") as fitted, pytest.raises(SwapError, match="cannot write the plan"):
        fitted.save(tmp_path / "missing" / "plan.json")
    assert not list(tmp_path.iterdir())


def test_the_peak_is_the_same_however_often_it_is_recorded() -> None:
    workload = training("recurrent")
    weights_after(workload, 1)
    with fit(workload, "60%") as fitted:
        assert fitted.file.itinerary.state or fitted.plan.moves
        first, *others = [peak_live_bytes(Stepper(workload)) for _ in range(3)]
    assert others == [first, first]
    assert first <= fitted.report.budget_bytes


def test_modules_that_the_user_has_in_evaluation_stay_so() -> None:
    workload = training("convolutional")
    frozen = workload.model.features[1].eval()  # type: ignore[index, union-attr]
    with fit(workload, "99%"):
        assert not frozen.training
        assert workload.model.training


def test_what_a_library_s_lstm_saves_is_made_again_to_the_bit() -> None:
    def built() -> Workload:
        seed_everything(3)
        model = Tagger()
        return Workload(
            model=model,
            inputs=lambda seed: ((torch.randn(33, 20, 9, generator=seeded(seed)),), {}),
            loss=lambda output, batch: output.square().mean(),
            optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
        )

    plain = weights_after(built(), 3)
    workload = built()
    with pytest.raises(SwapError) as refused:
        fit(workload, 1, allow=("recompute",))
    _, low, peak = (int(number) for number in re.findall(r"\d+", str(refused.value)))
    with fit(workload, (low + peak) // 2, allow=("recompute",)) as fitted:
        assert weights_after(workload, 3) == plain
        assert fitted.plan.recomputed


class Tagger(torch.nn.Module):
    """[batch, steps, 9] -> scores; the LSTM is one op, which leaves out a result where no gradient is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.recurrent = torch.nn.LSTM(9, 48, 2, dropout=0.2, batch_first=True)
        self.head = torch.nn.Linear(48, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.head(self.recurrent(x)[0])
        return scores
