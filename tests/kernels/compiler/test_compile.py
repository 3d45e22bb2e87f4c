"""The disk cache, the process's OpenMP pool, and what an artifact carries."""

import ast
import inspect
import json
import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kernels.compiler import cache, openmp
from kernels.compiler.compile import compile_kernel
from kernels.compiler.ir import IrError, Region
from kernels.compiler.kinds import KINDS
from kernels.compiler.standalone import LOADER_FILE, render_standalone
from tests.kernels.compiler.regions import Builder, lstm_cell

ROOT = Path(__file__).parents[3]


def doubled(elements: int = 5, factor: float = 2.0) -> Region:
    b = Builder(elements)
    b.output(b.value("mul", b.load(b.buffer(elements), 1), b.constant(factor)), 1, elements=elements)
    return b.region()


def works(kernel, factor: float = 2.0) -> bool:
    x, y = np.arange(5, dtype=np.float32), np.zeros(5, np.float32)
    kernel(x.ctypes.data, y.ctypes.data)
    return bool((y == x * np.float32(factor)).all())


def run_python(code: str, folder: Path, **environment: str) -> str:
    """Run code in a fresh process, in a group of its own that is ended whole; return what it printed."""
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        out, err = process.communicate(timeout=120)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, 9)
            process.wait()
    assert process.returncode == 0, err
    return out.strip()


IN_ANOTHER_PROCESS = """
from pathlib import Path
from tests.kernels.compiler.test_compile import compile_kernel, doubled, works
kernel = compile_kernel(doubled(), Path({folder!r}))
print(kernel.from_cache, works(kernel))
"""


def test_a_second_process_finds_the_kernel_in_the_cache(tmp_path):
    first = compile_kernel(doubled(), tmp_path)
    assert not first.from_cache and works(first)
    assert run_python(IN_ANOTHER_PROCESS.format(folder=str(tmp_path)), ROOT) == "True True"
    again = compile_kernel(doubled(), tmp_path)
    assert again.from_cache and works(again)
    assert again.source == first.source == again.path.read_text()
    assert [path.name for path in tmp_path.iterdir()] == [again.path.parent.name]


@pytest.mark.parametrize("suffix", [".py", ".nbi", ".nbc", ".json"])
def test_a_corrupt_cache_entry_is_built_again(suffix, tmp_path):
    entry = compile_kernel(doubled(), tmp_path).path.parent
    damaged = next(path for path in entry.rglob(f"*{suffix}") if path.is_file())
    damaged.write_bytes(damaged.read_bytes()[: damaged.stat().st_size // 2])
    kernel = compile_kernel(doubled(), tmp_path)
    assert not kernel.from_cache and works(kernel)
    kernel = compile_kernel(doubled(), tmp_path)
    assert kernel.from_cache and works(kernel)
    assert len(list(tmp_path.iterdir())) == 1


def test_an_entry_that_lacks_a_file_is_built_again(tmp_path):
    entry = compile_kernel(doubled(), tmp_path).path.parent
    next(entry.rglob("*.nbc")).unlink()
    assert not compile_kernel(doubled(), tmp_path).from_cache


def test_threads_that_compile_the_same_region_at_once_all_get_it(tmp_path):
    kernels = []
    threads = [threading.Thread(target=lambda: kernels.append(compile_kernel(doubled(), tmp_path))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(kernels) == 3 and all(works(kernel) for kernel in kernels)
    assert len(list(tmp_path.iterdir())) == 1


def test_two_processes_that_compile_the_same_region_at_once_both_get_it(tmp_path):
    code = IN_ANOTHER_PROCESS.format(folder=str(tmp_path))
    printed = []
    threads = [threading.Thread(target=lambda: printed.append(run_python(code, ROOT))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(printed) == 2 and all(line.endswith("True") for line in printed)
    assert compile_kernel(doubled(), tmp_path).from_cache
    assert len(list(tmp_path.iterdir())) == 1


def test_the_key_changes_with_kernel_kind_versions_processor_and_compiler(monkeypatch):
    keys = {cache.entry_key("region", region.key()) for region in (doubled(), doubled(6), doubled(5, 3.0))}
    keys |= {cache.entry_key("product", doubled().key()), cache.entry_key("region", doubled().key(), ("gemm*.py",))}
    for position in range(len(cache.toolchain())):
        changed = list(cache.toolchain())
        changed[position] += "-other"
        with monkeypatch.context() as patch:
            patch.setattr(cache, "toolchain", lambda changed=changed: tuple(changed))
            keys.add(cache.entry_key("region", doubled().key()))
    with monkeypatch.context() as patch:
        patch.setattr(cache, "compiler_hash", lambda sources: "another")
        keys.add(cache.entry_key("region", doubled().key()))
    assert len(keys) == 5 + len(cache.toolchain()) + 1


def test_buffer_names_do_not_change_the_key():
    region = doubled()
    renamed = replace(region, buffers=tuple(replace(buffer, name="other") for buffer in region.buffers))
    assert renamed.key() == region.key()


def imported_by(path: Path) -> set[Path]:
    """Return the files of kernels/ that a module imports, itself or through another."""
    found: set[Path] = set()
    waiting = [path]
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        found.add(path)
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("kernels."):
                names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
                files = [ROOT / f"{name.replace('.', '/')}.py" for name in names]
                waiting += [file for file in files if file.is_file()]
    return found


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)
def test_a_change_of_any_module_that_prints_a_kind_of_kernel_makes_another_key(kind):
    folder = Path(cache.__file__).parent
    printer = inspect.getclosurevars(kind.printed).nonlocals.get("print_one", kind.printed)
    patterns = (*(f"{module}.py" for module in cache._MODULES), *kind.sources)
    hashed = {path.resolve() for pattern in patterns for path in folder.glob(pattern)}
    assert all(list(folder.glob(pattern)) for pattern in patterns), patterns
    running = {folder / f"{name}.py" for name in ("cache", "loaded", "loading", "openmp")}  # they print nothing
    missing = imported_by(Path(inspect.getfile(printer))) - hashed - running
    assert not {path.name for path in missing}


def test_the_default_folder_is_the_environments_or_the_users(monkeypatch, tmp_path):
    monkeypatch.setenv("HOTBENCH_CACHE", str(tmp_path / "here"))
    assert cache.default_folder() == tmp_path / "here"
    monkeypatch.delenv("HOTBENCH_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.default_folder() == tmp_path / "hotbench" / "kernels"


def test_a_broken_region_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(IrError, match="extent 0"):
        compile_kernel(replace(doubled(), domain=(0,)), tmp_path)
    assert not list(tmp_path.iterdir())


def test_another_number_of_addresses_is_a_type_error(kernel_cache):
    with pytest.raises(TypeError):
        compile_kernel(doubled(), kernel_cache)(1)


def test_a_kernel_says_why_it_runs_on_one_thread(kernel_cache, monkeypatch):
    assert "too small" in compile_kernel(doubled(), kernel_cache).serial_reason
    monkeypatch.setattr(openmp, "mapped_libraries", lambda: ())
    kernel = compile_kernel(lstm_cell(64, 130), kernel_cache)
    assert not kernel.parallel and "no OpenMP library is loaded" in kernel.serial_reason
    monkeypatch.setattr(openmp, "mapped_libraries", lambda: ("/nowhere/libgomp.so",))
    assert "exports no GOMP_parallel" in str(openmp.pool())


def test_the_pool_is_the_one_that_torch_uses():
    torch = pytest.importorskip("torch")
    found = openmp.pool()
    assert isinstance(found, openmp.Pool), found
    assert (found.table != 0).all() and Path(torch.__file__).parent.parent in Path(found.library).parents


def test_standalone_files_run_where_hotbench_is_not(tmp_path):
    files = render_standalone({"double": doubled(), "gates": lstm_cell(64, 130)})
    assert LOADER_FILE in files and len(files) == 6
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    code = f"""
import json, sys
import numpy as np
import {Path(LOADER_FILE).stem} as kernels
double, gates = kernels.load("double"), kernels.load("gates")
x, y = np.arange(5, dtype=np.float32), np.zeros(5, np.float32)
double(x.ctypes.data, y.ctypes.data)
arrays = [np.ones(n, np.float32) for n in (4 * 64 * 130, 4 * 130, 64 * 130, 64 * 130, 64 * 130)]
gates(*(array.ctypes.data for array in arrays))
loaded = sorted(name for name in sys.modules if name.split(".")[0] in ("kernels", "hotbench", "torch"))
print(json.dumps([y.tolist(), float(arrays[4].min()), float(arrays[4].max()), loaded]))
import torch
shared = [array.copy() for array in arrays]
shared[3][:] = shared[4][:] = 0.0
kernels.load("gates", threads=3)(*(array.ctypes.data for array in shared))
print(all((one == other).all() for one, other in zip(arrays, shared)))
"""
    printed, same = run_python(code, tmp_path).splitlines()
    doubles, low, high, loaded = json.loads(printed)
    assert doubles == [0.0, 2.0, 4.0, 6.0, 8.0]
    gate, candidate = 1.0 / (1.0 + np.exp(-2.0)), np.tanh(2.0)
    assert low == high == pytest.approx(gate + gate * candidate, rel=1e-6)
    assert loaded == [] and same == "True"
