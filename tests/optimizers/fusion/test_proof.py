"""The proof of a fused model: every region with its ops, its ways, its errors, and what planted faults do to them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from analyzer.errors import HotbenchError, RecordError
from optimizers.fusion.alternatives import Alternative
from optimizers.fusion.api import Fused, fuse_measured, tensors_of
from optimizers.fusion.live import LiveProgram
from optimizers.fusion.proof import graph_ops, laid_out, prove_regions
from optimizers.fusion.proof_record import Proof, RegionProof, load_proof, save_proof
from optimizers.fusion.reproducer import export_region, find_region


class Mixed(torch.nn.Module):
    """A norm, gates, a comparison and an integer result: regions of several kinds, of odd sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = torch.nn.LayerNorm(23)
        self.inner = torch.nn.Linear(23, 23)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        h = self.norm(x) * torch.sigmoid(x)
        y = torch.tanh(self.inner(h)) + x
        return y.exp().sum(-1), (y > 0).to(torch.int64)


class Recurrent(torch.nn.Module):
    """Twelve equal steps with a carried state: a loop."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(17, 17) / 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        state, out = x[0], []
        for step in range(12):
            state = torch.tanh(state @ self.weight + x[step])
            out.append(state)
        return torch.stack(out)


def _fused(model: torch.nn.Module, x: torch.Tensor) -> tuple[Fused, LiveProgram, tuple[RegionProof, ...]]:
    fused = fuse_measured(model.eval(), (x,), {}, min_gain=-100.0)
    assert isinstance(fused, Fused), fused
    weights, inputs = tensors_of(model, fused.captured)
    live = LiveProgram(fused.captured, fused.program, fused.kernels, weights, inputs)
    return fused, live, prove_regions(fused.captured, fused.program, fused.kernels, fused.choices, weights, inputs)


@pytest.fixture(scope="module")
def mixed() -> tuple[Fused, LiveProgram, tuple[RegionProof, ...]]:
    return _fused(Mixed(), torch.randn(7, 23))


@pytest.fixture(scope="module")
def recurrent() -> tuple[Fused, LiveProgram, tuple[RegionProof, ...]]:
    return _fused(Recurrent(), torch.randn(12, 3, 17))


def test_every_kernel_of_the_program_is_proven(mixed: Any, recurrent: Any) -> None:
    for fused, _, regions in (mixed, recurrent):
        kept = {region.kernel for region in regions if region.kept}
        assert kept == set(fused.program.kernels)
        for region in regions:
            if region.kept and region.errors is not None:
                assert region.errors.elsewhere == 0 and region.errors.unequal == 0
                assert region.errors.max_rel < 1e-5
        assert any(region.errors is not None and region.errors.values for region in regions)


def test_eagers_own_error_stands_beside(mixed: Any) -> None:
    _, _, regions = mixed
    floating = [r for r in regions if r.kept and r.errors is not None and r.errors.values]
    assert floating
    for region in floating:
        assert region.eager_errors is not None and region.eager_errors.max_rel < 1e-5, region.unproven


def test_every_op_of_a_region_is_one_of_the_graph(mixed: Any, recurrent: Any) -> None:
    for fused, _, regions in (mixed, recurrent):
        ops = graph_ops(fused.captured, fused.program)
        names = {node.name for node in laid_out(fused.captured, fused.program).graph.graph.nodes}
        assert all(name in names and op.startswith("aten::") for name, op in ops)
        for region in regions:
            assert all(0 <= k < len(ops) for call in region.ops for k in call)


def test_every_way_was_timed_and_one_is_kept(mixed: Any, recurrent: Any) -> None:
    for _, _, regions in (mixed, recurrent):
        for region in regions:
            assert {"eager", "fused"} <= {way.name for way in region.alternatives}
            assert sum(way.kept for way in region.alternatives) == 1
            assert all(way.seconds is None or way.seconds > 0.0 for way in region.alternatives)


def test_a_kernel_moves_no_more_than_the_ops_that_it_replaces(recurrent: Any) -> None:
    _, _, regions = recurrent
    loops = [region for region in regions if region.kind == "loop"]
    for region in loops:
        assert 0 < region.bytes_after < region.bytes_before and region.flops > 0.0


def _planted(live: LiveProgram, name: str, fault: Callable[[], None]) -> LiveProgram:
    """Return the program with a kernel that runs, and then does `fault` to the memory that it wrote."""
    kernel = live.kernels[name]

    class Wrong:
        parallel = False
        source = kernel.source

        @staticmethod
        def entry(*addresses: int) -> None:
            kernel.entry(*addresses)
            buffers = live.program.kernels[name].buffers
            for address, buffer in zip(addresses, buffers, strict=True):
                if buffer.written and getattr(buffer, "dtype", "float32") == "float32":
                    ctypes_add(address, 1)

    return replace(live, kernels={**live.kernels, name: Wrong})


def ctypes_add(address: int, count: int) -> None:
    """Move the first floats at an address a little."""
    import ctypes

    values = (ctypes.c_float * count).from_address(address)
    for k in range(count):
        values[k] = values[k] + 0.01


def test_a_wrong_kernel_shows_in_its_errors(mixed: Any) -> None:
    fused, live, regions = mixed
    name = next(r.kernel for r in regions if r.kept and r.kind == "region" and r.errors is not None and r.errors.values)
    wrong = _planted(live, name, lambda: None)
    found = prove_regions(
        wrong.captured, wrong.program, wrong.kernels, fused.choices, list(wrong.weights), list(wrong.inputs)
    )
    errors = next(region.errors for region in found if region.kernel == name)
    assert errors is not None and errors.max_rel > 1e-4


def test_a_proof_survives_saving(mixed: Any) -> None:
    fused, _, regions = mixed
    way = Alternative("without loops", None, reason="it gave other results")
    proof = Proof({"": graph_ops(fused.captured, fused.program)}, regions, (way,), {"tracing": 0.5})
    assert load_proof(save_proof(proof)) == proof
    with pytest.raises(RecordError, match="cannot be read"):
        load_proof(b"{")
    with pytest.raises(RecordError, match="upgrade"):
        load_proof(save_proof(replace(proof, format_version=99)))


def _run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", str(folder / "reproduce.py"), "--rounds", "2", *arguments]
    return subprocess.run(command, cwd=folder.parent, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.parametrize("which", ["mixed", "recurrent"])
def test_a_reproducer_runs_by_itself_and_is_right(which: str, tmp_path: Path, request: Any) -> None:
    _, live, regions = request.getfixturevalue(which)
    kernel = next(r.kernel for r in regions if r.kept and r.errors is not None and r.errors.values)
    made = export_region(live, kernel, tmp_path / "one")
    assert made.kernel == kernel and "reproduce.py" in made.files and "eager.py" in made.files
    sources = [path.read_text() for path in (tmp_path / "one").rglob("*.py")]
    assert not any(f"import {name}" in text for text in sources for name in ("optimizers", "kernels.", "analyzer"))
    ended = _run(tmp_path / "one", "--json")
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    assert found["right"] and found["fused"]["seconds"] > 0.0 and found["eager"]["seconds"] > 0.0
    assert found["fused"]["max_rel"] < 1e-5 and found["eager"]["max_rel"] < 1e-5


def test_a_changed_reproducer_says_so(mixed: Any, tmp_path: Path) -> None:
    _, live, regions = mixed
    kernel = next(r.kernel for r in regions if r.kept and r.kind == "region")
    export_region(live, kernel, tmp_path / "one")
    (tmp_path / "one" / "memory.npz").write_bytes(b"other")
    ended = _run(tmp_path / "one")
    assert ended.returncode == 2 and "memory.npz differs" in ended.stderr and "Traceback" not in ended.stderr
    (tmp_path / "one" / "memory.npz").unlink()
    assert "memory.npz is missing" in _run(tmp_path / "one").stderr


def test_a_wrong_result_ends_with_one(mixed: Any, tmp_path: Path) -> None:
    _, live, regions = mixed
    kernel = next(r.kernel for r in regions if r.kept and r.errors is not None and r.errors.values)
    export_region(live, kernel, tmp_path / "one")
    folder = tmp_path / "one"
    with np.load(folder / "expected.npz") as stored:
        arrays = {name: stored[name] for name in stored}
    first = next(name for name in arrays if name.startswith("reference.") and arrays[name].dtype.kind == "f")
    arrays[first] = arrays[first] * 1.5
    np.savez(folder / "expected.npz", **arrays)
    manifest = json.loads((folder / "manifest.json").read_text())
    import hashlib

    manifest["files"]["expected.npz"] = hashlib.sha256((folder / "expected.npz").read_bytes()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))
    ended = _run(folder)
    assert ended.returncode == 1 and "WRONG" in ended.stdout


def test_an_unknown_region_names_those_that_there_are(mixed: Any) -> None:
    _, live, regions = mixed
    kernel = next(r.kernel for r in regions if r.kept)
    assert find_region([live], kernel[-6:]) == (live, kernel)
    with pytest.raises(HotbenchError, match=rf"'nowhere' is no kernel of this program; choose one of .*{kernel}"):
        find_region([live], "nowhere")
    if sum(r.kept for r in regions) > 1:
        with pytest.raises(HotbenchError, match="fits several kernels"):
            find_region([live], "_")
