"""Runs are saved whole or not at all, and load back equal."""

import dataclasses
import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from analyzer import record
from analyzer.errors import RecordError
from analyzer.graph import Graph
from analyzer.measurement import Measurement
from analyzer.run import DeviceSample, Kernel, MemoryProfile, load_run, save_run, with_content_id
from tests.analyzer.capture.small import capture_function
from tests.synthetic import Call, make_run

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def run():
    return capture_function(lambda x: (x @ x.t()).exp(), torch.rand(3, 5))


def test_a_loaded_run_equals_the_saved_one(run, tmp_path):
    save_run(run, tmp_path / "run")
    assert load_run(tmp_path / "run") == run


def test_device_fields_and_notes_survive(tmp_path):
    made = make_run([Call("aten::mm", 1e-5), Call("aten::add", 2e-6, (0,))])
    ops = (
        dataclasses.replace(made.graph.ops[0], device_seconds=Measurement(1e-6, 9e-7, 2e-6, 5, "s")),
        made.graph.ops[1],
    )
    made = with_content_id(
        dataclasses.replace(
            made,
            graph=Graph(ops, made.graph.tensors, made.graph.edges),
            kernels=(Kernel("gemm", 0, 7, 0.1, 0.2), Kernel("orphan", -1, 7, 0.4, 0.1)),
            samples=(DeviceSample(0.0, 0.5, 1 << 40, None, 45.0, None),),
            busy_seconds=0.3,
            idle_seconds=0.1,
            notes=("ünïcode", "two"),
            parent="run-abcdefabcdef",
            memory=MemoryProfile(12, {"input": 12}, ((0.0, 3), (0.1, 12))),
        )
    )
    save_run(made, tmp_path / "run")
    assert load_run(tmp_path / "run") == made


def test_an_empty_run_survives(tmp_path):
    made = with_content_id(make_run([]))
    save_run(made, tmp_path / "run")
    assert load_run(tmp_path / "run") == made


def test_the_id_follows_the_content(run):
    assert with_content_id(dataclasses.replace(run, id="")).id == run.id
    assert with_content_id(dataclasses.replace(run, throughput=run.throughput + 1)).id != run.id
    other = dataclasses.replace(run.graph.ops[0], flops=12345.0)
    graph = Graph((other, *run.graph.ops[1:]), run.graph.tensors, run.graph.edges)
    assert with_content_id(dataclasses.replace(run, graph=graph)).id != run.id


def one_line(folder):
    with pytest.raises(RecordError) as caught:
        load_run(folder)
    assert "\n" not in str(caught.value) and str(folder) in str(caught.value)
    return str(caught.value)


def test_a_missing_folder_is_named(tmp_path):
    assert "no folder" in one_line(tmp_path / "nowhere")


def test_a_foreign_folder_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    one_line(tmp_path)
    record.write_folder(tmp_path / "plan", {"plan.json": b"{}"}, "plan", "plan-1")
    assert "plan" in one_line(tmp_path / "plan")


@pytest.mark.parametrize("name", ["run.json", "ops.parquet", "tensors.parquet", "edges.parquet", "memory.parquet"])
@pytest.mark.parametrize("damage", ["truncate", "flip", "remove"])
def test_a_damaged_file_is_found(run, tmp_path, name, damage):
    save_run(run, tmp_path / "run")
    path = tmp_path / "run" / name
    data = path.read_bytes()
    if damage == "truncate":
        path.write_bytes(data[: len(data) // 2])
    elif damage == "flip":
        path.write_bytes(data[:40] + bytes([data[40] ^ 1]) + data[41:])
    else:
        path.unlink()
    assert name in one_line(tmp_path / "run")


@pytest.mark.parametrize(
    "content", [b"{", b"[]", b'"text"', b"{}", b'{"format_version": 99}', b'{"format_version": 1, "memory": 3}']
)
def test_a_head_of_another_shape_with_a_right_hash_is_refused(run, tmp_path, content):
    save_run(run, tmp_path / "run")
    (tmp_path / "run" / "run.json").write_bytes(content)
    rewrite_hashes(tmp_path / "run")
    one_line(tmp_path / "run")


def test_changed_content_with_right_hashes_does_not_match_its_id(run, tmp_path):
    save_run(run, tmp_path / "run")
    path = tmp_path / "run" / "run.json"
    head = json.loads(path.read_bytes())
    path.write_text(json.dumps(head | {"throughput": 1e9}))
    rewrite_hashes(tmp_path / "run")
    assert "does not match its id" in one_line(tmp_path / "run")


def rewrite_hashes(folder):
    manifest = json.loads((folder / "manifest.json").read_bytes())
    manifest["files"] = {name: record.file_hash(folder / name) for name in manifest["files"]}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_a_full_disk_leaves_nothing(run, tmp_path, monkeypatch):
    written = []

    def full(path, data):
        written.append(path)
        if len(written) == 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return original(path, data)

    original = Path.write_bytes
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(RecordError, match="No space left"):
        save_run(run, tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_a_file_size_limit_leaves_nothing(run, tmp_path):
    save_run(run, tmp_path / "whole")
    code = (
        "import resource, signal, sys; from pathlib import Path\n"
        "from analyzer.errors import RecordError; from analyzer.run import load_run, save_run\n"
        "run = load_run(Path(sys.argv[1]))\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1500, 1500))\n"
        "try: save_run(run, Path(sys.argv[2]))\n"
        "except RecordError as error: sys.exit(7)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "whole"), str(tmp_path / "limited" / "run")], cwd=ROOT, timeout=120
    )
    assert done.returncode == 7
    assert not any((tmp_path / "limited").iterdir())
