from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from analyzer.workload import Stepper
from benchmarks.contract import Promise
from benchmarks.neighbour import busy_neighbour
from benchmarks.steps import KINDS, build, repeats_for
from benchmarks.verdict import BENCHMARK, EQUAL, Trial, _row


def trial(ours: str, theirs: str) -> Trial:
    return Trial("products", ours, theirs, (1.0, 0.99, 1.01), (0.98, 1.02), (9,), 10.0, ())


@pytest.mark.parametrize("kind", KINDS)
def test_planted_work_leaves_the_outputs_as_they_are(kind: str) -> None:
    plain = Stepper(build({"kind": kind, "repeats": 20, "extra": 0})).step()
    longer = Stepper(build({"kind": kind, "repeats": 20, "extra": 7})).step()
    assert torch.equal(plain, longer)


def test_five_percent_of_the_repeats_are_a_whole_number() -> None:
    repeats = repeats_for("small-ops", 1e-3)
    assert repeats >= 20 and repeats % 20 == 0


def test_shares_are_counted_and_compared() -> None:
    trials = [trial("inconclusive", "slower"), trial("inconclusive", "inconclusive"), trial("inconclusive", "faster")]
    row = _row(EQUAL, trials, lambda word: word == "inconclusive")
    assert (row.ours, row.theirs) == (1.0, pytest.approx(1 / 3))
    assert row.ratio.low <= row.ratio.median <= row.ratio.high
    assert row.ratio.median > 1


def test_every_row_is_listed() -> None:
    listed = subprocess.run(
        [sys.executable, "-m", "benchmarks.verdict", "--list"], capture_output=True, text=True, check=True
    )
    assert listed.stdout.split("\n")[:2] == [f"{p.case}  {p.peer}  {p.metric}" for p in BENCHMARK.promises]
    assert Promise("planted-5-percent", "two-sample-t-test", "share-of-right-verdicts") in BENCHMARK.promises


def test_the_neighbour_leaves_with_the_block() -> None:
    with busy_neighbour(seed=3) as pid:
        os.kill(pid, 0)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
