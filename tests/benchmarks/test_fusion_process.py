"""A peer's process: it answers, its failure is a reason, and nothing of it is left."""

import os

import pytest

from analyzer.errors import HotbenchError
from benchmarks.fusion_process import WorkerProcess


def test_a_peer_answers_with_seconds_and_is_gone_after_the_block():
    with WorkerProcess("chain20-1e4", "eager", 1, 0.001) as worker:
        ready = worker.ready(120.0)
        assert ready["deviation"] == 0.0 and ready["compile_seconds"] > 0
        assert 0 < worker.sample() < 60
        pid = worker._process.pid
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_peer_that_cannot_run_the_case_gives_its_reason():
    with (
        WorkerProcess("chain20-1e4", "nn.LSTM", 1, 0.001) as worker,
        pytest.raises(HotbenchError, match=r"^torch has no kernel for chain20-1e4$"),
    ):
        worker.ready(120.0)


def test_a_peer_that_takes_too_long_or_dies_gives_a_reason():
    with WorkerProcess("chain20-1e4", "eager", 1, 0.001) as worker:
        with pytest.raises(HotbenchError, match="not ready after 0 s"):
            worker.ready(0.0)
        worker._process.kill()
        with pytest.raises(HotbenchError, match="its process ended: "):
            worker.ready(60.0)
