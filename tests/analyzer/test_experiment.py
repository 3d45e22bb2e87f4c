from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest

from analyzer.errors import HotbenchError, RecordError
from analyzer.experiment import Experiment, Launch, Sampling, load_experiment, run_experiment, save_experiment
from analyzer.launcher import VariantError

SHORT = Sampling(blocks=5, most_blocks=5, confirmations=1, block_seconds=0.01, timeout_seconds=60)


def launch(entry: str, **argument: object) -> Launch:
    return Launch(entry, f"tests.analyzer.variants:{entry}", dict(argument), 1)


def experiment_of(baseline: Launch, candidate: Launch, *, training: bool = False, **options: object) -> Experiment:
    return run_experiment(
        baseline,
        candidate,
        parent="candidate-0",
        training=training,
        sampling=SHORT,
        **options,  # type: ignore[arg-type]
    )


@pytest.fixture(scope="module")
def slow() -> Experiment:
    """The same outputs, at the price of much more work."""
    return experiment_of(launch("affine"), launch("affine", spend=40))


def test_much_more_work_is_slower(slow: Experiment) -> None:
    assert (slow.verdict, slow.verdicts["time"], slow.verdicts["accuracy"]) == ("slower", "slower", "passed")
    assert slow.speedup.high < slow.noise_floor.low
    assert slow.sittings == (5, 3)


def test_the_figures_are_there_and_in_step(slow: Experiment) -> None:
    assert len(slow.before_seconds) == len(slow.after_seconds) == len(slow.again_seconds) == sum(slow.rounds)
    assert (slow.size_ratio, slow.accuracy.max_rel, slow.accuracy.inputs) == (1.0, 0.0, 3)
    assert slow.memory_ratio is not None and slow.peak_bytes_before is not None
    assert slow.memory_ratio > 1.0
    assert slow.accuracy.metric_before == slow.accuracy.metric_after != {}
    assert slow.environment.torch


def test_a_saved_experiment_is_the_same_one(slow: Experiment, tmp_path: Path) -> None:
    save_experiment(slow, tmp_path / "saved")
    assert load_experiment(tmp_path / "saved") == slow


def test_a_changed_experiment_is_refused(slow: Experiment, tmp_path: Path) -> None:
    save_experiment(dataclasses.replace(slow, verdict="faster"), tmp_path / "forged")
    with pytest.raises(RecordError, match="its content is another's"):
        load_experiment(tmp_path / "forged")


def test_other_outputs_are_refused() -> None:
    found = experiment_of(launch("affine"), launch("affine", scale=1.001))
    assert found.verdict == "refused"
    assert found.accuracy.max_rel == pytest.approx(1e-3, rel=0.01)
    assert found.reason.startswith("refused: largest relative error 0.001, beyond 1e-05")


def test_a_training_step_is_compared_with_what_rounding_does_to_it() -> None:
    found = experiment_of(launch("trained"), launch("trained", lr=0.5), training=True)
    assert found.verdict == "refused"
    assert found.accuracy.tolerance >= 1e-5
    assert found.accuracy.max_rel > found.accuracy.tolerance


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("refuses to build", "refused: candidate 'misbehaving' failed: codebook.bin differs from its hash"),
        ("is killed", "refused: candidate 'misbehaving' was killed by SIGKILL"),
    ],
)
def test_a_candidate_that_fails_is_refused_with_the_reason(how: str, reason: str, tmp_path: Path) -> None:
    found = experiment_of(launch("affine"), launch("misbehaving", how=how))
    assert (found.verdict, found.reason, found.before_seconds) == ("refused", reason, ())
    assert math.isnan(found.speedup.median) and found.speedup.samples == 0
    save_experiment(found, tmp_path / "saved")
    assert load_experiment(tmp_path / "saved").reason == reason


def test_a_baseline_that_fails_is_an_error() -> None:
    with pytest.raises(VariantError, match="baseline 'misbehaving' failed: the workload's step raised ValueError"):
        experiment_of(launch("misbehaving", how="raises"), launch("affine"))


def test_a_run_that_trains_has_no_baseline_that_does_not() -> None:
    with pytest.raises(HotbenchError, match="the baseline does not train, unlike the run"):
        experiment_of(launch("affine"), launch("affine"), training=True)
