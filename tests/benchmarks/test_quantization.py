"""The benchmark of quantization promises every case against every peer, and loses none without a word."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from analyzer.errors import HotbenchError
from benchmarks import quantization
from benchmarks.contract import Promise, missing_promises
from benchmarks.quantization import BENCHMARK, Effort, measure, promises
from benchmarks.quantization_answers import compared
from benchmarks.quantization_cases import (
    AGREEMENT,
    ATEN4,
    CASES,
    COSINE,
    FLOAT,
    LATENCY,
    ONNX,
    QUANTO,
    SIZE,
    case_of,
)
from benchmarks.quantization_fits import exact_kmeans, squared_error
from benchmarks.quantization_g2p import edit_distance
from benchmarks.quantization_prepared import OURS
from benchmarks.quantization_resemblyzer import speech_like
from benchmarks.quantization_texts import sentences

NAMES = (
    "gemv-4096x4096-k4 gemv-11008x4096-k4 gemv-4096x4096-k4-float minilm-b1 minilm-b32 minilm-f32 minilm-bf16 "
    "minilm-size minilm-size-97 minilm-size-tuned g2p-gru resemblyzer-lstm kmeans-1e7 gptq-kmeans-minilm"
).split()
EFFORT = Effort((1, 2), 3, 0.01, 5.0, 100.0, 40)


class FakeWorker:
    """Stands for a process: ours takes a third of the time and half the bytes, and turns each answer a little."""

    started: list[tuple[str, str, int]] = []  # noqa: RUF012
    refusals: dict[str, str] = {}  # noqa: RUF012

    def __init__(self, case, peer, threads, block_seconds, variables, module, more):
        self.started.append((case, peer, threads))
        self.case, self.peer, self.more = case_of(case), peer, more
        assert module == "benchmarks.quantization_worker"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def end(self):
        pass

    def ready(self, limit_seconds):
        if self.peer in self.refusals:
            raise HotbenchError(self.refusals[self.peer])
        ours = self.peer == OURS
        facts = {name: 2.0 if ours else 1.0 for name in self.case.metrics if name not in (LATENCY, SIZE)}
        facts[SIZE] = 5.0 if ours else 10.0
        classes = []
        if self.case.family in ("minilm", "resemblyzer") and self.more:
            texts, path = self.more
            answers = np.random.default_rng(0).standard_normal((int(texts), 8)).astype(np.float32)
            answers[:, 0] += 0.0 if self.peer == FLOAT else 0.01
            np.save(path, answers)
            classes = ["a" if row[1] > 0 else "b" for row in answers] if self.case.family == "minilm" else []
        return {"compile_seconds": 1.0, "facts": facts, "said": "", "classes": classes}

    def sample(self):
        return 1.0 if self.peer == OURS else 3.0


@pytest.fixture
def workers(monkeypatch):
    monkeypatch.setattr(quantization, "WorkerProcess", FakeWorker)
    monkeypatch.setattr(quantization, "unavailable", lambda peer: "")
    monkeypatch.setattr(FakeWorker, "started", [])
    monkeypatch.setattr(FakeWorker, "refusals", {})
    return FakeWorker


def outcome_of(*names):
    return measure(quantization.Settings(quick=False), [case_of(name) for name in names], EFFORT)


def test_the_cases_are_those_of_the_table_each_against_its_peers():
    assert [case.id for case in CASES] == NAMES
    assert Promise("minilm-b1", ONNX, LATENCY) in BENCHMARK.promises
    assert Promise("gemv-4096x4096-k4", ATEN4, LATENCY) in BENCHMARK.promises
    assert Promise("minilm-b32", QUANTO, AGREEMENT) in BENCHMARK.promises
    assert len(set(BENCHMARK.promises)) == len(BENCHMARK.promises)


@pytest.mark.parametrize("name", NAMES)
def test_every_promised_row_is_measured_on_one_thread_and_on_two(workers, name):
    outcome = outcome_of(name)
    wanted = sorted((promise.case, promise.peer, promise.metric) for promise in promises([case_of(name)]))
    for threads in (1, 2):
        rows = [row for row in outcome.rows if row.threads == threads]
        assert sorted((row.case, row.peer, row.metric) for row in rows) == wanted
    assert outcome.missing == ()
    for row in outcome.rows:
        expected = {LATENCY: 3.0, SIZE: 2.0}.get(row.metric)
        assert expected is None or row.ratio.median == pytest.approx(expected)


def test_answers_are_compared_with_those_of_torch(workers):
    rows = {(row.peer, row.metric): row for row in outcome_of("minilm-b1").rows if row.threads == 1}
    assert rows[FLOAT, COSINE].theirs == pytest.approx(1.0)
    assert 0.99 < rows[FLOAT, COSINE].ours < 1.0
    assert rows[FLOAT, AGREEMENT].theirs == 1.0
    assert rows[ONNX, COSINE].ratio.median == pytest.approx(1.0)


def test_peer_that_fails_is_missing_with_its_reason_and_the_others_are_measured(workers):
    workers.refusals = {ONNX: "no opset for it"}
    outcome = outcome_of("minilm-size")
    assert {row.peer for row in outcome.rows} == {FLOAT}
    assert [(gone.peer, gone.why) for gone in outcome.missing] == [
        (ONNX, f"minilm-size, {threads} threads: no opset for it") for threads in (1, 2)
    ]


def test_case_that_ours_cannot_run_is_named_and_its_rows_stay_promised(workers):
    workers.refusals = {OURS: "resemblyzer not installed"}
    outcome = outcome_of("resemblyzer-lstm")
    assert outcome.rows == ()
    assert {gone.peer for gone in outcome.missing} == {OURS}
    assert missing_promises(BENCHMARK, outcome) == list(BENCHMARK.promises)


def test_quick_leaves_out_what_takes_long_and_says_so(workers):
    outcome = measure(quantization.Settings(quick=True))
    assert {threads for _, _, threads in workers.started} == {1}
    assert {case for case, _, _ in workers.started} == {"gemv-4096x4096-k4", "minilm-f32"}
    assert {gone.peer for gone in outcome.missing} >= {ONNX, QUANTO}
    assert "avx2" in outcome.details["cpu_features"]


def test_equal_answers_agree_and_turned_ones_less():
    rng = np.random.default_rng()
    vectors = rng.standard_normal((60, 16)).astype(np.float32)
    classes = [f"c{k % 5}" for k in range(60)]
    assert compared(vectors, vectors, classes)[AGREEMENT] == 1.0
    noisy = vectors + 2.0 * rng.standard_normal(vectors.shape).astype(np.float32)
    found = compared(noisy, vectors, classes)
    assert found[COSINE] < 0.9 and found[AGREEMENT] < 1.0 and found["least_cosine"] <= found[COSINE]


def test_sentences_are_many_distinct_and_mixed():
    found = sentences()
    texts = [text for text, _ in found]
    assert len(texts) > 1628 and len(set(texts)) == len(texts)
    assert len({name for _, name in found[:1500]}) > 8


def test_centroids_of_the_exact_fit_are_the_means_of_what_is_nearest():
    values = np.random.default_rng().standard_normal(5003).astype(np.float32)
    centroids = exact_kmeans(values).astype(np.float64)
    nearest = np.abs(values[:, None] - centroids[None]).argmin(axis=1)
    for number, centroid in enumerate(centroids):
        assert values[nearest == number].mean() == pytest.approx(centroid, abs=2e-3)
    assert squared_error(values, centroids.astype(np.float32)) == pytest.approx(
        float(((values - centroids[nearest]) ** 2).mean()), rel=1e-6
    )


def test_edits_are_counted():
    assert edit_distance(list("kitten"), list("sitting")) == 3
    assert edit_distance([], list("abc")) == 3


def test_spectra_are_finite_and_differ():
    spectra = speech_like(3)
    assert spectra.shape == (3, 160, 40) and torch.isfinite(spectra).all()
    assert not torch.equal(spectra[0], spectra[1])


def test_unknown_case_is_told_in_one_line(capsys):
    assert quantization.main(["--case", "nope"]) == 2
    assert capsys.readouterr().err.startswith("benchmarks.quantization: there is no case 'nope'")


def test_worker_answers_with_facts_and_seconds():
    command = [sys.executable, "-m", "benchmarks.quantization_worker", "kmeans-1e7", "no-such-peer", "1", "0.01"]
    command[3] = "gemv-4096x4096-k4"
    done = subprocess.run(
        command, input="", capture_output=True, text=True, timeout=120, cwd=Path(__file__).parents[2], check=False
    )
    assert "KeyError" in json.loads(done.stdout)["refused"]
