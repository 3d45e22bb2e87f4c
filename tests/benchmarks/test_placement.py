"""The placement benchmark lists what it measures; its pieces measure what they say, on few and small transfers."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest

from analyzer.errors import HotbenchError
from analyzer.progress import silent
from analyzer.workload import Stepper, seed_everything
from benchmarks import placement, placement_deliveries, placement_hosts
from benchmarks.command import main
from benchmarks.placement_deliveries_worker import MOST_WORDS, mark_of, sizes_of
from benchmarks.placement_findings import Effort, Findings
from benchmarks.placement_models import MODELS
from optimizers.placement.backends import BASELINES, unavailable

MEGABYTES = {"mlp": 20, "lstm": 25, "cnn": 8.5}


def test_the_listing_names_each_row_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(placement.BENCHMARK, ["--list", "--json"]) == 0
    rows = [tuple(row.values()) for row in json.loads(capsys.readouterr().out)]
    assert len(rows) == len(set(rows)) == len(placement.PROMISES)
    for case, metric in (
        ("p2p-shm-64m", "latency"),
        ("step-tcp-cnn", "step_seconds"),
        ("translation-shm", "seconds_to_loss"),
    ):
        assert (case, "grpc", metric) in rows
    assert {peer for _, peer, metric in rows if metric == "step_seconds"} >= set(BASELINES)


def test_an_unknown_case_is_refused_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert placement.main(["--case", "p2p-shm-3m"]) == 2
    said = capsys.readouterr().err
    assert "no case 'p2p-shm-3m'; choose from p2p-shm-64k" in said and said.count("\n") == 1


@pytest.mark.parametrize("name", MODELS)
def test_a_model_has_the_size_that_is_promised_and_trains(name: str) -> None:
    seed_everything(0)
    workload = MODELS[name]()
    size = sum(parameter.nbytes for parameter in workload.model.parameters())
    assert size / 1e6 == pytest.approx(MEGABYTES[name], rel=0.05)
    stepper = Stepper(workload)
    losses = [float(stepper.step()) for _ in range(4)]
    assert losses[-1] < losses[0]


def test_the_words_of_a_transfer_are_no_other_transfers() -> None:
    marks = {mark_of(source, turn) for source in range(4) for turn in range(500)}
    assert len(marks) == 2000 and 0 not in marks
    sizes = sizes_of(1, 2, 5000, seed=3)
    assert sizes.min() >= 1 and sizes.max() < MOST_WORDS and np.median(sizes) < MOST_WORDS / 50
    assert (sizes != sizes_of(2, 1, 5000, seed=3)).any()


@pytest.mark.skipif(bool(unavailable("hotbench")), reason=unavailable("hotbench") or "libucp is there")
def test_every_delivery_of_a_short_run_is_whole() -> None:
    found = Findings()
    placement_deliveries.measure("deliveries-shm", Effort(1, 1, 240, 1), found, silent, processes=2)
    assert not found.missing
    (row,) = found.rows
    assert (row.ours, row.theirs, row.ratio.median) == (240, 240, 1.0)
    assert found.details["deliveries-shm"]["torn"] == found.details["deliveries-shm"]["lost"] == 0


@pytest.mark.skipif(bool(placement_hosts.unavailable()), reason=placement_hosts.unavailable() or "root, with ip")
def test_two_hosts_are_gone_afterwards() -> None:
    folder = "/run/netns"
    before = set(os.listdir(folder)) if os.path.isdir(folder) else set()  # noqa: PTH112, PTH208
    try:
        with placement_hosts.two_hosts(megabits_per_second=500) as hosts:
            made = set(os.listdir(folder)) - before  # noqa: PTH208
            assert set(hosts.names) <= made
            assert hosts.places(3)[2].prefix == hosts.places(3)[0].prefix != hosts.places(3)[1].prefix
    except HotbenchError as error:
        pytest.skip(str(error))
    assert not set(hosts.names) & set(os.listdir(folder))  # noqa: PTH208
