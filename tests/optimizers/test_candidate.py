from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
import torch

from analyzer.errors import RecordError, WorkloadError
from analyzer.measurement import Estimate
from analyzer.record import write_folder
from analyzer.workload import Stepper, load_workload
from optimizers import registry
from optimizers.candidate import (
    launch_candidate,
    load_candidate,
    make_candidate,
    rebuild_candidate,
    save_candidate,
)
from optimizers.plan import Applied, Options, Plan

SOURCE = """
import torch
from analyzer.workload import Workload, seeded

def workload():
    return Workload(model=torch.nn.Linear(3, 2), inputs=lambda seed: ((torch.randn(5, 3, generator=seeded(seed)),), {}))
"""


@dataclass(frozen=True)
class NoOptions(Options):
    pass


class Scaled(torch.nn.Module):
    def __init__(self, inner, factor):
        super().__init__()
        self.inner = inner
        self.factor = factor

    def forward(self, x):
        return self.inner(x) * self.factor


class Scale:
    """An optimizer that multiplies the output: only for tests of what carries it."""

    name: ClassVar[str] = "scale"
    options: ClassVar[type[Options]] = NoOptions

    def rebuild(self, workload, applied):
        if applied.blobs["factor"] != str(applied.decisions["factor"]).encode():
            raise RecordError("the factor differs from what was decided")
        workload.model = Scaled(workload.model, applied.decisions["factor"])
        return workload


@pytest.fixture(autouse=True)
def only_scale(monkeypatch):
    monkeypatch.setattr(registry, "OPTIMIZERS", (Scale(),))


@pytest.fixture
def reference(tmp_path):
    path = tmp_path / "model.py"
    path.write_text(SOURCE)
    return load_workload(f"{path}:workload")[1]


def candidate_of(reference, factor=3.0, blob=None):
    plan = Plan("plan-1", "run-1", "scale", {}, (), Estimate(1, 1, 1, "x", "test"), "times three")
    applied = Applied(plan, {"factor": factor}, {"factor": str(factor).encode() if blob is None else blob})
    return make_candidate("run-1", reference, (applied,), ("a note",))


def test_a_saved_candidate_comes_back_equal(tmp_path, reference):
    candidate = candidate_of(reference)
    save_candidate(candidate, tmp_path / "candidate")
    assert load_candidate(tmp_path / "candidate") == candidate


def test_rebuilding_repeats_it(tmp_path, reference):
    candidate = candidate_of(reference)
    save_candidate(candidate, tmp_path / "candidate")
    workload = launch_candidate({"candidate": str(tmp_path / "candidate")})
    plain, _ = load_workload(f"{reference.path}:workload")
    assert torch.equal(Stepper(workload).step(), Stepper(plain).step() * 3.0)


def test_the_id_depends_on_decisions_and_blobs(reference):
    ids = {
        candidate_of(reference).id,
        candidate_of(reference, factor=2.0).id,
        candidate_of(reference, blob=b"other").id,
    }
    assert len(ids) == 3
    assert candidate_of(reference).id == candidate_of(reference).id


def test_a_blob_that_differs_from_the_decision_is_refused(reference):
    with pytest.raises(RecordError, match="differs from what was decided"):
        rebuild_candidate(candidate_of(reference, blob=b"9.0"))


def test_a_changed_blob_file_is_refused(tmp_path, reference):
    save_candidate(candidate_of(reference), tmp_path / "candidate")
    (tmp_path / "candidate" / "blobs" / "0" / "factor").write_bytes(b"4.0")
    with pytest.raises(RecordError, match="corrupt"):
        load_candidate(tmp_path / "candidate")


def test_a_blob_name_that_leads_out_of_the_folder_is_refused(tmp_path, reference):
    (tmp_path / "secret").write_bytes(b"not ours")
    candidate = candidate_of(reference)
    save_candidate(candidate, tmp_path / "candidate")
    text = (tmp_path / "candidate" / "candidate.json").read_text()
    changed = text.replace('"blobs": [\n', '"blobs": [ "../../../secret",\n', 1)
    changed = changed if changed != text else text.replace('"blobs":["', '"blobs":["../../../secret","', 1)
    assert changed != text
    write_folder(tmp_path / "forged", {"candidate.json": changed.encode(), "blobs/0/factor": b"3.0"}, "candidate", "x")
    with pytest.raises(RecordError, match="names a file that its manifest does not: '../../../secret'"):
        load_candidate(tmp_path / "forged")


def test_a_changed_source_is_refused(reference):
    candidate = candidate_of(reference)
    with Path(reference.path).open("a") as stream:
        stream.write("\n# edited\n")
    with pytest.raises(WorkloadError, match="has changed"):
        rebuild_candidate(candidate)
