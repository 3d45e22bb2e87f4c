"""`python -m optimizers.placement`: a rank of torchrun's, or one line that says what is wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from optimizers.placement.__main__ import main
from optimizers.placement.backends import unavailable
from optimizers.placement.launch import meeting_point

WORKLOAD = f"{Path(__file__).parent / 'step_workloads.py'}:odd"


@pytest.mark.skipif(bool(unavailable("grpc")), reason=unavailable("grpc") or "gRPC is there")
def test_ranks_that_torchrun_starts_train_together_and_rank_0_speaks(monkeypatch, capsys) -> None:
    store, meeting = meeting_point(60.0)
    place = {"WORLD_SIZE": "2", "MASTER_ADDR": meeting.host, "MASTER_PORT": str(meeting.port)}
    place["TORCHELASTIC_USE_AGENT_STORE"] = "True"  # As torchrun says: the store is its own, not rank 0's.
    arguments = [WORKLOAD, "--backend", "grpc", "--steps", "2", "--json"]
    other = subprocess.Popen(
        [sys.executable, "-m", "optimizers.placement", *arguments],
        env={**os.environ, **place, "RANK": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        for name, value in {**place, "RANK": "0"}.items():
            monkeypatch.setenv(name, value)
        assert main(arguments) == 0
        said, _ = other.communicate(timeout=120)
    finally:
        other.kill()
        other.wait()
        del store
    found = json.loads(capsys.readouterr().out)
    assert (found["backend"], found["steps"], said) == ("grpc", 2, b"")
    assert found["median_step"]["seconds"] > 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([WORKLOAD, "--backend", "gloo", "--world-size", "1"], "a world of 1 ranks"),
        ([WORKLOAD, "--backend", "gloo", "--set", "form"], "--set 'form' sets nothing; write NAME=VALUE"),
        ([WORKLOAD, "--backend", "gloo", "--set", "form=ring"], "backend gloo has no setting form"),
        (["nothing.py:training", "--backend", "gloo"], "no file 'nothing.py'"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments: list[str], words: str, capsys) -> None:
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert words in said and said.count("\n") == 1
