"""Many kernels: a second process compiles some of them into the cache, and nothing depends on it."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kernels.compiler import beside
from kernels.compiler.compile import compile_kernel, is_compiled
from kernels.compiler.ir import Region
from tests.kernels.compiler.test_compile import doubled, works

LIMIT_SECONDS = 120.0


def several(count: int) -> list[Region]:
    return [doubled(factor=3.0 + k) for k in range(count)]


def test_the_second_process_begins_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, *others = several(3)

    def once_the_others_are_there(kernel: Region, cache: Path, threads: None) -> None:
        assert kernel is first, "the second process should have taken this one"
        end = time.monotonic() + LIMIT_SECONDS
        while not all(is_compiled(other, cache) for other in others) and time.monotonic() < end:
            time.sleep(0.02)

    monkeypatch.setattr(beside, "compile_kernel", once_the_others_are_there)
    assert beside.compile_side_by_side([(region, tmp_path, None) for region in (first, *others)]) == 2
    made = [compile_kernel(region, tmp_path) for region in others]
    assert all(kernel.from_cache for kernel in made)
    assert works(made[0], 4.0) and works(made[1], 5.0)
    assert not [entry for entry in tmp_path.iterdir() if entry.name.startswith(".")]


@pytest.mark.parametrize("worker", ["no.such.module", "this"])
def test_a_second_process_that_ends_early_is_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, worker: str
) -> None:
    monkeypatch.setattr(beside, "idle_cores", lambda: 1.0)
    monkeypatch.setattr(beside, "_WORKER", worker)
    regions = {f"k{k}": region for k, region in enumerate(several(beside.FEWEST_KERNELS))}
    made = beside.compile_kernels(regions, tmp_path)
    assert list(made) == list(regions)
    assert all(works(kernel, 3.0 + k) for k, kernel in enumerate(made.values()))


def test_no_process_is_started_for_few_kernels_or_without_an_idle_core(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    regions = {f"k{k}": region for k, region in enumerate(several(beside.FEWEST_KERNELS))}
    monkeypatch.setattr(beside, "idle_cores", lambda: 0.0)
    assert len(beside.compile_kernels(regions, tmp_path)) == len(regions)
    monkeypatch.setattr(beside, "idle_cores", lambda: 8.0)
    assert all(kernel.from_cache for kernel in beside.compile_kernels(regions, tmp_path).values())


def test_a_core_is_idle_only_where_an_interpreter_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (0.2, 9.0, 9.0))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 3}, raising=False)
    assert beside.idle_cores() == 1.0
    monkeypatch.setattr(os, "getloadavg", lambda: (3.5, 0.0, 0.0))
    assert beside.idle_cores() < 0.0
    monkeypatch.setattr(os, "getloadavg", lambda: (0.2, 0.0, 0.0))
    monkeypatch.setattr(sys, "executable", "/opt/editor")
    assert beside.idle_cores() == 0.0
