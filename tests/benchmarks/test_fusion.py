"""The benchmark of fusion promises every case against every peer, and loses no peer without a word."""

import json
import subprocess
import sys

import pytest

from analyzer.errors import HotbenchError
from benchmarks import command, fusion
from benchmarks.contract import Promise, missing_promises
from benchmarks.fusion import BENCHMARK, Effort, measure, promises, rows_of
from benchmarks.fusion_merge import keep
from benchmarks.fusion_models import AUTOTUNE, CASES, EAGER, INDUCTOR, LIBRARY, ONNX, case_of
from benchmarks.fusion_peers import OURS

NAMES = (
    "lstm-t100-b1-h64 lstm-t100-b1-h128 lstm-t100-b1-h256 lstm-t100-b32-h64 lstm-t100-b32-h128 lstm-t100-b32-h256 "
    "lstm-t100-b4-h128 lstm-t100-b8-h128 lstm-t100-b16-h128 gru-variant-b1 gru-variant-b32 encoder-nonmatmul "
    "chain20-1e6 chain20-1e4 encoder minilm-b1 minilm-b32 rammer-lstm rammer-seq2seq rammer-deepspeech2 "
    "rammer-resnext29 rammer-nasnet rammer-alexnet lstm-training-b1-h128 lstm-training-b32-h128 "
    "lstm2-training-b1-h128 gru-variant-training-b1"
).split()


class FakeWorker:
    """Stands for a process: half the time of the peer before it, or a reason."""

    started: list[tuple[str, str, int]] = []  # noqa: RUF012
    refusals: dict[str, str] = {}  # noqa: RUF012
    dying: tuple[str, ...] = ()

    def __init__(self, case, peer, threads, block_seconds, variables):
        self.started.append((case, peer, threads))
        self.peer, self.ended = peer, False
        assert set(variables) == {"HOTBENCH_CACHE", "TORCHINDUCTOR_CACHE_DIR"}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()

    def ready(self, limit_seconds):
        if self.peer in self.refusals:
            raise HotbenchError(self.refusals[self.peer])
        return {"compile_seconds": 2.0 if self.peer == OURS else 8.0, "deviation": 0.0, "said": ""}

    def sample(self):
        assert not self.ended
        if self.peer in self.dying:
            raise HotbenchError("its process ended: killed")
        return 1.0 if self.peer == OURS else 3.0

    def end(self):
        self.ended = True


@pytest.fixture
def workers(monkeypatch):
    monkeypatch.setattr(fusion, "WorkerProcess", FakeWorker)
    monkeypatch.setattr(fusion, "unavailable", lambda peer: "")
    monkeypatch.setattr(FakeWorker, "started", [])
    monkeypatch.setattr(FakeWorker, "refusals", {})
    monkeypatch.setattr(FakeWorker, "dying", ())
    return FakeWorker


EFFORT = Effort((1, 2), 3, 0.01, 5.0, 100.0)


def outcome_of(*names):
    return measure(fusion.Settings(quick=False), [case_of(name) for name in names], EFFORT)


def test_every_case_is_promised_against_every_peer_that_it_has():
    assert [case.id for case in CASES] == NAMES
    for name in NAMES:
        assert Promise(name, EAGER, "latency") in BENCHMARK.promises
        assert Promise(name, INDUCTOR, "latency") in BENCHMARK.promises
        assert Promise(name, INDUCTOR, "compile_seconds") in BENCHMARK.promises
        library = name.startswith(("lstm", "rammer-lstm", "rammer-seq2seq", "rammer-deepspeech2"))
        assert (Promise(name, LIBRARY, "latency") in BENCHMARK.promises) == library
        assert (Promise(name, ONNX, "latency") in BENCHMARK.promises) == ("training" not in name)
    assert len(set(BENCHMARK.promises)) == len(BENCHMARK.promises)


def test_every_promised_row_is_measured_on_one_thread_and_on_two(workers):
    names = ("gru-variant-b1", "lstm-training-b1-h128")
    outcome = outcome_of(*names)
    wanted = promises([case_of(name) for name in names])
    for threads in (1, 2):
        rows = [row for row in outcome.rows if row.threads == threads]
        assert sorted((row.case, row.peer, row.metric) for row in rows) == sorted(
            (promise.case, promise.peer, promise.metric) for promise in wanted
        )
        for row in rows:
            assert row.ratio.median == pytest.approx(3.0 if row.metric == "latency" else 4.0)
    assert outcome.missing == ()


def test_a_peer_that_fails_is_missing_with_its_reason_and_the_others_are_measured(workers):
    workers.refusals = {AUTOTUNE: "no C++ compiler is installed"}
    outcome = outcome_of("gru-variant-b1")
    assert {row.peer for row in outcome.rows} == {EAGER, INDUCTOR, ONNX}
    assert [(gone.peer, gone.why) for gone in outcome.missing] == [
        (AUTOTUNE, "gru-variant-b1, 1 threads: no C++ compiler is installed"),
        (AUTOTUNE, "gru-variant-b1, 2 threads: not tried again: no C++ compiler is installed"),
    ]


def test_a_peer_that_dies_while_it_is_measured_is_missing(workers):
    workers.dying = (INDUCTOR,)
    outcome = outcome_of("gru-variant-b1")
    assert {row.peer for row in outcome.rows} == {EAGER, AUTOTUNE, ONNX}
    assert {gone.peer for gone in outcome.missing} == {INDUCTOR} and "while it was being" in outcome.missing[0].why
    workers.dying = (OURS,)
    assert outcome_of("gru-variant-b1").rows == ()


def test_what_has_no_time_left_is_missing(workers):
    outcome = measure(fusion.Settings(quick=True), [case_of("chain20-1e4")], Effort((1,), 3, 0.01, 5.0, -1.0))
    assert outcome.rows == () and "the time of --quick is used up" in outcome.missing[0].why


def test_a_peer_that_can_run_no_case_is_missing_once(workers, monkeypatch):
    monkeypatch.setattr(fusion, "unavailable", lambda peer: "not installed" if peer == ONNX else "")
    outcome = outcome_of("gru-variant-b1", "encoder")
    assert [(gone.peer, gone.why) for gone in outcome.missing] == [(ONNX, "not installed")]
    assert {row.peer for row in outcome.rows} == {EAGER, INDUCTOR, AUTOTUNE}


def test_a_case_that_ours_cannot_run_is_named_and_its_rows_stay_promised(workers):
    workers.refusals = {OURS: "training cannot be fused"}
    outcome = outcome_of("lstm2-training-b1-h128")
    assert outcome.rows == () and {gone.peer for gone in outcome.missing} == {OURS}
    assert missing_promises(BENCHMARK, outcome) == list(BENCHMARK.promises)


def test_the_compilation_from_the_cache_is_in_the_details(workers):
    outcome = outcome_of("lstm-t100-b1-h64")
    assert outcome.details["lstm-t100-b1-h64, 1 threads"]["from_cache"]["compile_seconds"] == 2.0
    assert workers.started.count(("lstm-t100-b1-h64", OURS, 1)) == 2


def test_quick_leaves_out_what_takes_long_and_says_so(workers):
    outcome = measure(fusion.Settings(quick=True))
    assert {threads for _, _, threads in workers.started} == {1}
    assert {row.peer for row in outcome.rows} == {EAGER, LIBRARY}
    assert {gone.peer for gone in outcome.missing} == {INDUCTOR, AUTOTUNE, ONNX}


def test_rows_need_no_peer():
    assert list(rows_of(CASES[0], 1, {OURS: (1.0,)}, {})) == []


def result(case, ours, python="3.11"):
    row = {"case": case, "peer": EAGER, "metric": "latency", "threads": 1, "ours": ours}
    return {
        "environment": {"python": python, "cpu": "Some CPU", "cores": 2},
        "rows": [row],
        "missing": [{"peer": ONNX, "why": f"{case}, 1 threads: not installed"}],
        "details": {f"{case}, 1 threads": {"measured": ours}},
    }


def test_a_case_that_is_measured_again_replaces_what_was_there_of_it_and_nothing_else(tmp_path):
    measured = tmp_path / "measured.json"
    for case, ours in (("encoder", 1.0), ("encoder-nonmatmul", 2.0), ("encoder", 3.0)):
        measured.write_text(json.dumps(result(case, ours)))
        path = keep(BENCHMARK, measured, [case], [1], tmp_path / "results")
    found = json.loads(path.read_text())
    assert {row["case"]: row["ours"] for row in found["rows"]} == {"encoder": 3.0, "encoder-nonmatmul": 2.0}
    assert len(found["rows"]) == len(found["missing"]) == len(found["details"]) == 2
    assert found["details"]["encoder, 1 threads"] == {"measured": 3.0}


def test_what_was_measured_on_other_threads_stays_and_a_reason_stands_once(tmp_path):
    one, two = result("encoder", 1.0), result("encoder", 2.0)
    two["rows"][0]["threads"], two["details"] = 2, {"encoder, 2 threads": {"measured": 2.0}}
    one["missing"] = two["missing"] = [{"peer": ONNX, "why": "not installed"}]
    measured = tmp_path / "measured.json"
    for count, found in enumerate((one, two), start=1):
        measured.write_text(json.dumps(found))
        path = keep(BENCHMARK, measured, ["encoder"], [count], tmp_path / "results")
    found = json.loads(path.read_text())
    assert [(row["threads"], row["ours"]) for row in found["rows"]] == [(1, 1.0), (2, 2.0)]
    assert found["missing"] == one["missing"] and len(found["details"]) == 2


def test_results_of_different_environments_are_not_mixed(tmp_path):
    measured = tmp_path / "measured.json"
    measured.write_text(json.dumps(result("encoder", 1.0)))
    keep(BENCHMARK, measured, ["encoder"], [1], tmp_path)
    measured.write_text(json.dumps(result("encoder", 2.0, python="3.12")))
    with pytest.raises(HotbenchError, match="measured with another python; remove it"):
        keep(BENCHMARK, measured, ["encoder"], [1], tmp_path)


def test_some_cases_are_measured_on_the_threads_that_are_asked_for(workers, monkeypatch):
    monkeypatch.setattr(command, "main", lambda benchmark, *_: benchmark.measure(fusion.Settings(quick=False)))
    fusion.main(["--case", "encoder", "--threads", "2"])
    assert {(case, threads) for case, _, threads in workers.started} == {("encoder", 2)}


def test_an_unknown_case_is_one_line_and_exit_code_two(capsys):
    assert fusion.main(["--case", "lstm-t1000"]) == 2
    assert capsys.readouterr().err.startswith("benchmarks.fusion: no case lstm-t1000; give one of lstm-t100-b1-h64, ")


def test_the_list_follows_the_cases_that_are_asked_for():
    listed = subprocess.run(
        [sys.executable, "-m", "benchmarks.fusion", "--list", "--json", "--case", "chain20-1e4"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert {row["case"] for row in json.loads(listed.stdout)} == {"chain20-1e4"}
