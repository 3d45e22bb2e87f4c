"""Products computed with their gates, and loops on several threads: right wherever they are allowed, at odd sizes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from examples.gru_variant import GRUVariant
from examples.lstm import UnrolledLSTM
from kernels.compiler import loop_shared
from kernels.compiler.compile import compile_kernel
from kernels.compiler.loop_ir import Fused, Product
from kernels.compiler.loop_product import worth_fusing
from kernels.compiler.loop_shared import worth_sharing
from kernels.compiler.loop_verify import verify_loop
from optimizers.fusion import loops_build
from optimizers.fusion.api import build, tensors_of
from optimizers.fusion.capture import capture
from optimizers.fusion.lower import lower
from optimizers.fusion.program import Program, build_program
from optimizers.fusion.runtime import Runner
from tests.optimizers.fusion.interpreted import assert_same, fused_module


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.no_grad():
        yield
    torch.set_num_threads(before)


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Products join their regions wherever that is possible, whether or not it is faster."""
    monkeypatch.setattr(loops_build, "worth_fusing", lambda product, trips: product.dtype == "float32")


def program_of(model: torch.nn.Module, x: torch.Tensor) -> Program:
    program = build_program(lower(capture(model, (x,), {})), "test", rolled=True)
    for loop in program.loops:
        verify_loop(loop.program)
    return program


def kinds(program: Program) -> list[list[str]]:
    return [[type(statement).__name__ for statement in loop.program.body] for loop in program.loops]


def product(rows: int, columns: int, depth: int) -> Product:
    (loop,) = program_of(UnrolledLSTM(depth, columns // 4), torch.randn(rows, 4, depth)).loops
    (found,) = (
        part
        for each in loop.program.body
        for part in (each.products if isinstance(each, Fused) else [each])
        if isinstance(part, Product)
    )
    return found


def test_only_what_gains_is_fused() -> None:
    assert worth_fusing(product(1, 4 * 64, 64), 100), "weights that the nearest cache helps with"
    assert not worth_fusing(product(1, 4 * 128, 128), 100)
    assert not worth_fusing(product(1, 4 * 64, 64), 4), "too few trips to pay for the panels"
    assert not worth_fusing(product(8, 4 * 64, 64), 100)


@pytest.mark.parametrize(("batch", "hidden"), [(1, 1), (1, 3), (2, 17), (3, 33), (7, 5)])
def test_gates_in_the_tile_give_what_eager_gives(always: None, batch: int, hidden: int) -> None:
    model, x = UnrolledLSTM(5, hidden), torch.randn(batch, 6, 5)
    one_point = batch == hidden == 1  # there is no tile of one number
    assert kinds(program_of(model, x)) == ([["Product", "Apply"]] if one_point else [["Fused"]])
    assert_same(fused_module(model, (x,), rolled=True)(x), model(x))


@pytest.mark.parametrize("batch", [1, 4])
def test_two_products_side_by_side_feed_one_region(always: None, batch: int) -> None:
    model, x = GRUVariant(9, 19), torch.randn(batch, 5, 9)
    (body,) = (loop.program.body for loop in program_of(model, x).loops)
    assert [len(each.products) for each in body if isinstance(each, Fused)] == [1 if batch == 1 else 2, 2]
    captured = capture(model, (x,), {})
    program, kernels = build(captured, rolled=True)
    weights, inputs = tensors_of(model, captured)
    runner = Runner(program, kernels)
    for _ in range(2):
        assert_same(runner(weights, inputs)[0], model(x))
        model.first.weight_hidden.data.mul_(-0.5)


def test_double_precision_stays_in_two_statements() -> None:
    model, x = UnrolledLSTM(4, 6).double(), torch.randn(1, 20, 4, dtype=torch.float64)
    assert all("Fused" not in row for row in kinds(program_of(model, x)))


@pytest.mark.parametrize(("batch", "hidden", "fuse"), [(1, 37, False), (5, 21, True)])
def test_threads_share_a_trip_bit_for_bit(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, batch: int, hidden: int, fuse: bool
) -> None:
    monkeypatch.setattr(loop_shared, "FEWEST_FLOPS", 1)
    monkeypatch.setattr(loops_build, "worth_fusing", lambda product, trips: fuse)
    model, x = UnrolledLSTM(11, hidden), torch.randn(batch, 9, 11)
    captured = capture(model, (x,), {})
    program, kernels = build(captured, rolled=True)
    (loop,) = program.loops
    weights, inputs = tensors_of(model, captured)
    expected = Runner(program, kernels)(weights, inputs)[0]
    made = compile_kernel(loop.program, tmp_path, threads=2)
    assert made.parallel and compile_kernel(loop.program, tmp_path, threads=2).from_cache
    assert not kernels[loop.name].parallel, "one thread gets a kernel of its own"
    torch.set_num_threads(3)  # more than the panels of the small one, and than many machines have cores
    runner = Runner(program, {**kernels, loop.name: made})
    for _ in range(5):
        assert torch.equal(runner(weights, inputs)[0], expected)


def test_a_short_trip_is_not_shared(tmp_path: Path) -> None:
    (small,) = program_of(UnrolledLSTM(8, 64), torch.randn(1, 5, 8)).loops
    (large,) = program_of(UnrolledLSTM(8, 128), torch.randn(1, 5, 8)).loops
    assert not worth_sharing(small.program) and worth_sharing(large.program)
    made = compile_kernel(small.program, tmp_path, threads=2)
    assert not made.parallel
