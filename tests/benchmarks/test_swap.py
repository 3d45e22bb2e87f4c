"""The swap benchmark lists what it measures, and its peers compute what the plain step does."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

from analyzer.errors import HotbenchError
from analyzer.progress import silent
from analyzer.workload import Stepper, Workload, seed_everything
from benchmarks import swap, swap_bits, swap_budgets, swap_cuts, swap_figure, swap_planner
from benchmarks.swap_bits import weights_after
from benchmarks.swap_budgets import Trial, add_rows, summary
from benchmarks.swap_findings import BAR, OVER_BUDGET, PEAK_ERROR, STEP_ERROR, Effort, Findings
from benchmarks.swap_models import CASES, CLASSES, Transformer
from benchmarks.swap_peers import PEERS, with_checkpoints, with_saving_on_cpu
from tests.optimizers.swap.training_models import training


def small() -> Workload:
    seed_everything(0)
    model = Transformer(layers=1)
    return Workload(
        model=model,
        inputs=lambda seed: ((torch.ones(1, 5, 256) * (seed + 1),), {}),
        loss=lambda output, batch: output.square().sum(),
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
    )


def losses(change: Callable[[Workload], Workload]) -> list[float]:
    stepper = Stepper(change(small()))
    seed_everything(3)
    return [float(stepper.step()) for _ in range(2)]


def test_the_listing_names_each_row_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert swap.main(["--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(set(lines)) == len(swap.PROMISES)
    assert {promise.peer for promise in swap.PROMISES} == {*PEERS, BAR}
    for prefix in ("budgets", "bits"):
        assert {f"{prefix}-{model}" for model in CASES} <= set(swap.CASES)
    assert {"transformer-50", "transformer-60", "front-transformer", *swap_planner.CASES} <= set(swap.CASES)


def test_an_unknown_case_is_named_with_those_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert swap.main(["--case", "transformer-51"]) == 2
    assert "no case 'transformer-51'; choose from transformer-50, " in capsys.readouterr().err


def test_cases_of_one_model_are_measured_in_one_sitting() -> None:
    assert swap_cuts.sittings(["cnn-30", "transformer-60", swap_cuts.FRONT]) == [
        ("cnn", ["cnn-30"]),
        ("transformer", ["transformer-60", "front-transformer"]),
    ]


def trial(share_of_budget: float, predicted: float = 1.0, refused: str = "") -> Trial:
    """Return a budget of 1,000 bytes, what was measured, and a prediction so many times as high."""
    peak = round(1000 * share_of_budget)
    return Trial(1000, peak, predicted * peak, 2.0, 2.0 * predicted, refused=refused)


def test_a_budget_that_was_missed_and_one_that_was_refused_show_as_figures_below_one() -> None:
    for worst in (trial(1.25), trial(1.25, refused="no")):
        found = Findings()
        add_rows("budgets-cnn", [trial(0.9), trial(1.0), worst], found)
        row = found.rows[0]
        assert (row.metric, row.ours, row.ratio.median) == (OVER_BUDGET, 1.25, 0.8)
        assert summary([trial(0.9), worst])["kept"] == 1


def test_errors_are_medians_against_their_bars_and_refusals_have_none() -> None:
    found = Findings()
    add_rows("budgets-lstm", [trial(0.9, 1.02), trial(0.9, 0.94), trial(0.9, 1.04), trial(9.0, refused="no")], found)
    rows = {row.metric: row for row in found.rows}
    assert rows[PEAK_ERROR].ours == pytest.approx(0.04)
    assert rows[PEAK_ERROR].ratio.median == pytest.approx(0.03 / 0.04)
    assert rows[STEP_ERROR].ratio.median == pytest.approx(0.10 / 0.04)
    assert rows[STEP_ERROR].ratio.low < rows[STEP_ERROR].ratio.median < rows[STEP_ERROR].ratio.high


def test_each_budget_is_fitted_and_measured_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CASES, "lstm", lambda: training("recurrent"))
    found = Findings()
    swap_budgets.measure("budgets-lstm", Effort(1, 2, 1, 1), found, silent)
    details = found.details["budgets-lstm"]
    assert [row.metric for row in found.rows] == [OVER_BUDGET, PEAK_ERROR, STEP_ERROR]
    assert (details["budgets"], details["kept"], details["refused"]) == (2, 2, 0)
    low, high = (item["budget_bytes"] for item in details["trials"])
    assert details["smallest_budget_bytes"] < low < high < details["peak_bytes"]


def test_weights_that_differ_show_as_a_share_of_equal_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(swap_bits.MODELS, "lstm", lambda: training("recurrent"))
    effort = Effort(1, 1, 2, 1)
    found = Findings()
    swap_bits.measure("bits-lstm", effort, found, silent)
    assert (found.rows[0].ratio.median, found.details["bits-lstm"]["steps"]) == (1.0, 2)
    assert found.details["bits-lstm"]["swapped"] + found.details["bits-lstm"]["recomputed"] > 0
    calls = []

    def drifting(workload: Workload, steps: int) -> np.ndarray:
        calls.append(steps)
        return weights_after(workload, steps + len(calls) - 1)

    monkeypatch.setattr(swap_bits, "weights_after", drifting)
    swap_bits.measure("bits-lstm", effort, found, silent)
    assert 0.0 <= found.rows[1].ratio.median < 1.0


@pytest.mark.parametrize("case", swap_planner.CASES)
def test_the_planner_is_held_to_its_slowest_plan(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(swap_planner, "TENSORS", 90)
    monkeypatch.setattr(swap_planner, "STATE", 9)
    found = Findings()
    swap_planner.measure(case, Effort(1, 1, 1, 3), found, silent)
    kinds = found.details[case]["kinds"]
    assert len(kinds) == 6
    assert any(kind["recomputed"] for kind in kinds) == ("recompute" in swap_planner.CASES[case])
    assert found.rows[0].ours == pytest.approx(max(sorted(kind["seconds"])[1] for kind in kinds))


POINTS = {
    "none": (100, (1.0, 1.0, 1.0)),
    "checkpoint": (40, (1.3, 1.3, 1.3)),
    "hotbench-50": (50, (1.05, 1.05, 1.05)),
    "hotbench-65": (35, (1.25, 1.25, 1.25)),
}


def test_the_front_sets_the_point_that_is_ahead_on_both_axes_beside_checkpointing() -> None:
    found = Findings()
    swap_cuts.add_front(POINTS, {70: "cannot be kept"}, found)
    assert [row.ratio.median for row in found.rows] == [pytest.approx(40 / 35), pytest.approx(1.3 / 1.25)]
    assert found.details[swap_cuts.FRONT]["refused"] == {"70": "cannot be kept"}
    slow = {**POINTS, "hotbench-65": (35, (1.5, 1.5, 1.5))}
    swap_cuts.add_front(slow, {}, found)
    assert min(row.ratio.median for row in found.rows[2:]) < 1.0


def test_the_figure_of_a_front_has_each_point_and_is_well_formed(tmp_path: Path) -> None:
    found = Findings()
    swap_cuts.add_front(POINTS, {}, found)
    result = {"details": found.details, "environment": {"cpu": "a < b", "torch": "2.13"}}
    (tmp_path / "result.json").write_text(json.dumps(result))
    assert swap_figure.main([str(tmp_path / "result.json"), str(tmp_path / "front.svg")]) == 0
    drawn = ElementTree.fromstring((tmp_path / "front.svg").read_text())
    names = [element.text for element in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert {"plain step", "checkpoint", "−50 %", "−65 %"} <= set(names)
    assert len(list(drawn.iter("{http://www.w3.org/2000/svg}circle"))) == len(POINTS)


def test_a_result_without_a_front_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "result.json").write_text("{}")
    assert swap_figure.main([str(tmp_path / "result.json"), str(tmp_path / "front.svg")]) == 2
    assert "has no front-transformer; measure it" in capsys.readouterr().err
    assert not (tmp_path / "front.svg").exists()


@pytest.mark.parametrize("change", [with_checkpoints, with_saving_on_cpu])
def test_a_peer_computes_what_the_plain_step_does(change: Callable[[Workload], Workload]) -> None:
    assert losses(change) == losses(PEERS["none"])


def test_a_model_without_blocks_is_refused_by_checkpointing() -> None:
    model = torch.nn.Linear(2, CLASSES)
    with pytest.raises(HotbenchError, match="no blocks"):
        with_checkpoints(Workload(model=model, inputs=(torch.ones(1, 2),)))
