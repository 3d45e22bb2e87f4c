"""Printed loops compute what the interpreter computes, touch nothing else, and come back from the cache."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kernels.compiler.compile import compile_kernel
from kernels.compiler.loop_ir import LoopProgram
from kernels.compiler.loop_reference import evaluate_loop
from kernels.compiler.print_loop import print_loop
from kernels.compiler.standalone import render_standalone
from tests.kernels.compiler.loops import call, fused, recurrence, run

FRESH = np.random.default_rng()


def agree(program: LoopProgram, cache: Path, special: float | None = None) -> None:
    """Fail unless the compiled loop and the interpreter leave the same states."""
    dtype = np.dtype(np.float32 if program.buffers[1].nbytes == 4 * 49 else np.float64)
    contents = {k: FRESH.standard_normal(program.buffers[k].nbytes // dtype.itemsize).astype(dtype) for k in (1, 2)}
    contents[1] /= 3
    if special is not None:
        contents[2][contents[2].size // 2] = special
    compiled = compile_kernel(program, cache)
    for _ in range(2):
        results = [
            run(program, contents, how)[3].view(dtype)
            for how in (call(compiled.entry), lambda memories: evaluate_loop(program, memories))
        ]
        np.testing.assert_allclose(*results, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize(("rows", "packed"), [(1, False), (3, True)])
def test_compiled_loop_agrees_with_the_interpreter(tmp_path: Path, rows: int, packed: bool) -> None:
    program = recurrence(6, rows, 7, packed=packed)
    agree(program, tmp_path)
    # The same code on unusual values.
    for special in (float("nan"), float("inf"), 1e-42):
        agree(program, tmp_path, special)
    again = compile_kernel(program, tmp_path)
    assert again.from_cache and again.source == compile_kernel(program, tmp_path).source


@pytest.mark.parametrize("rows", [1, 3])
def test_a_product_and_its_region_in_one_agree_with_the_interpreter(tmp_path: Path, rows: int) -> None:
    program = fused(recurrence(6, rows, 7, packed=rows > 1, transposed=rows > 1))
    agree(program, tmp_path)
    agree(program, tmp_path, float("nan"))
    product = program.body[0].products[0]
    memories = run(program, {}, call(compile_kernel(program, tmp_path).entry))
    before = slice(product.out.offset, product.out.offset + 4 * rows * 7)
    assert (memories[0][before] == 0xA5).all(), "the product went to memory"


def test_double_precision_has_loops_of_its_own(tmp_path: Path) -> None:
    agree(recurrence(3, 2, 7, "float64", transposed=False), tmp_path)


def test_text_names_every_trip_and_import() -> None:
    text = print_loop(recurrence(6, 3, 7, packed=True), "kernel")
    assert "for trip in range(6):" in text and "from kernels.compiler.gemm_tile import gemm_tile" in text
    assert compile(text, "loop", "exec")


def test_artifact_carries_what_a_loop_imports() -> None:
    files = render_standalone({"loop": recurrence(6, 3, 7)})
    assert {"hotbench_gemm_tile.py", "hotbench_gemm_depth.py", "hotbench_gemm_vector.py"} <= set(files)
    assert all(b"from kernels" not in data for data in files.values())
