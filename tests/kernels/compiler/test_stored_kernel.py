"""A kernel by its entry alone: the same machine code, None for whatever is not whole; Numba stays as it was."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numba.core.caching import Cache

from kernels.compiler.compile import CompiledKernel, compile_kernel
from kernels.compiler.ir import Access, Buffer, Region, Store, Value
from kernels.compiler.loading import loading_alone
from kernels.compiler.stored_kernel import entry_of, load_kernel


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kernels")


@pytest.fixture(scope="module")
def made(folder: Path) -> CompiledKernel:
    whole = Access(0, 0, (1,))
    region = Region(
        (37,),
        0,
        (Buffer("x", "float32", 37), Buffer("y", "float32", 37, written=True)),
        (Value("load", "float32", (), access=whole), Value("tanh", "float32", (0,))),
        (Store(1, Access(1, 0, (1,))),),
    )
    return compile_kernel(region, folder)


def test_stored_kernel_computes_what_the_compiled_one_does(made: CompiledKernel, folder: Path) -> None:
    name = entry_of(made.path, folder)
    assert name is not None
    kernel = load_kernel(name, folder)
    assert kernel is not None and kernel.source == made.source and kernel.parallel == made.parallel
    x, ours, theirs = np.random.default_rng(5).random((3, 37), dtype=np.float32)
    made(x.ctypes.data, theirs.ctypes.data)
    kernel(x.ctypes.data, ours.ctypes.data)
    assert np.array_equal(ours, theirs) and not np.array_equal(ours, x)
    with pytest.raises(TypeError):
        kernel(x.ctypes.data)


def test_what_is_not_whole_is_no_kernel(made: CompiledKernel, folder: Path) -> None:
    assert load_kernel("0" * 24, folder) is None
    assert entry_of(made.path, folder / "other") is None
    assert entry_of(made.path.with_name("kernel.py"), folder) is None
    copied = folder / "copied"
    copied.mkdir()
    for path in made.path.parent.iterdir():
        if path.is_file():
            (copied / path.name).write_bytes(path.read_bytes()[:-1])
    assert load_kernel("copied", folder) is None


def test_other_threads_load_as_ever_and_the_change_is_undone() -> None:
    calls: list[str] = []
    before: Any = Cache.load_overload

    class Watched(Cache):
        def __init__(self) -> None:
            self._enabled = False

    class Target:
        def refresh(self) -> None:
            calls.append(threading.current_thread().name)

    watched: Any = Watched()
    with loading_alone():
        assert Cache.load_overload is not before
        other = threading.Thread(target=lambda: before(watched, None, Target()), name="other")
        through = threading.Thread(target=lambda: watched.load_overload(None, Target()), name="through")
        for thread in (other, through):
            thread.start()
            thread.join()
    assert calls == ["other", "through"]
    assert Cache.load_overload is before
