"""Loops printed as C against those that Numba compiles and the interpreter."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from kernels.compiler.compile import compile_kernel
from kernels.compiler.ir import IrError
from kernels.compiler.loop_ir import Product
from kernels.compiler.loop_plain import plain_loop
from kernels.compiler.loop_reference import evaluate_loop
from kernels.compiler.print_c_loop import print_c_loop
from tests.kernels.compiler.c_compiler import compile_c, needs_compiler
from tests.kernels.compiler.loops import call, recurrence, run


@needs_compiler
@pytest.mark.parametrize(
    ("rows", "size", "dtype", "packed"),
    [(1, 7, "float32", False), (3, 7, "float32", True), (2, 5, "float64", False)],
    ids=["vector", "panels", "float64"],
)
def test_c_numba_and_the_interpreter_leave_the_same_states(rows, size, dtype, packed, tmp_path) -> None:
    program = recurrence(6, rows, size, dtype, transposed=packed, packed=packed)
    entry = compile_c(print_c_loop(program, "loop"), "loop", tmp_path)
    compiled = compile_kernel(program, tmp_path)
    rng = np.random.default_rng()
    for special in (None, np.nan, np.inf, 1e-42):
        item = np.dtype(dtype).itemsize
        contents = {k: rng.standard_normal(program.buffers[k].nbytes // item).astype(dtype) for k in (1, 2)}
        contents[1] /= 3
        if special is not None:
            contents[2][contents[2].size // 2] = special
        c, numba, exact = (
            run(program, contents, how)[3].view(dtype)
            for how in (call(entry), call(compiled.entry), lambda memories: evaluate_loop(program, memories))
        )
        # C and the interpreter add a product up in double: they differ in tanh alone, by up to six units a step.
        np.testing.assert_allclose(c, exact, rtol=2e-6, atol=5e-7)
        np.testing.assert_allclose(numba, c, rtol=2e-5, atol=2e-6)


def test_panels_are_read_where_they_were_packed_from() -> None:
    program = recurrence(3, 3, 7, packed=True)
    plain = plain_loop(program)
    assert len(plain.prologue) == len(program.prologue) - 1
    (product,) = (statement for statement in plain.body if isinstance(statement, Product))
    assert not product.terms[0].packed and product.terms[0].right.buffer == 1


def test_panels_of_what_the_loop_writes_are_refused() -> None:
    program = recurrence(3, 3, 7, packed=True)
    buffers = tuple(replace(buffer, written=True) for buffer in program.buffers)
    with pytest.raises(IrError, match="panels of buffer weight"):
        plain_loop(replace(program, buffers=buffers))
