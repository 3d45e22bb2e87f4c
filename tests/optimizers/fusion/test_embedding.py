"""Embeddings as kernels: any indices, tied tables, and the error of an index that is no row."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from kernels.compiler.gather_ir import GatherKernel
from optimizers.fusion.api import build
from optimizers.fusion.capture import capture
from optimizers.fusion.export import artifact_files
from optimizers.fusion.module import FusedModule
from optimizers.fusion.runtime import Runner
from tests.optimizers.fusion.interpreted import Function, assert_fuses, assert_same, fused_module


def draw(*shape: int, rows: int = 11, seed: int = 0, dtype: torch.dtype = torch.int64) -> torch.Tensor:
    return torch.randint(rows, shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


@pytest.mark.parametrize("shape", [(), (1,), (7,), (2, 5), (3, 1, 4)])
@pytest.mark.parametrize("dtype", [torch.int64, torch.int32])
def test_indices_of_any_shape_pick_rows(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    model = nn.Sequential(nn.Embedding(11, 6, padding_idx=3), nn.Tanh())
    program = assert_fuses(model, draw(*shape, dtype=dtype)).runner.program
    assert program.library_calls == 0 and len(program.of_kind(GatherKernel)) == 1


def test_strided_indices_table_and_a_result_that_is_returned() -> None:
    w = torch.randn(20, 11)
    model = Function(lambda x, w: (functional.embedding(x[:, ::2].t(), w.t()[:, 3:9]), x + 1), w=w)
    assert len(assert_fuses(model, draw(4, 6)).runner.program.of_kind(GatherKernel)) == 1


def test_tied_table_is_read_by_index_and_by_product() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(11, 6)

        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            hidden = torch.tanh(self.table(tokens) + self.table(tokens.flip(0)))
            logits: torch.Tensor = functional.linear(hidden, self.table.weight)
            return logits

    model, tokens = Tied(), draw(2, 5)
    fused = assert_fuses(model, tokens)
    assert len(fused.runner.program.of_kind(GatherKernel)) >= 1 and len(fused.runner.program.products) == 1
    with torch.no_grad():
        model.table.weight.data.mul_(-2.0)
        assert_same(fused(tokens), model(tokens))


@pytest.mark.parametrize("bad", [11, -1, 2**40])
def test_index_that_is_no_row_raises_as_eager_does(bad: int) -> None:
    model, tokens = nn.Sequential(nn.Embedding(11, 6), nn.Tanh()), draw(2, 5)
    wrong = tokens.clone()
    wrong[1, 2] = bad
    with torch.no_grad():
        captured = capture(model, (tokens,), {})
        compiled = FusedModule(model, captured, Runner(*build(captured)))
        for fused in (fused_module(model, (tokens,)), compiled):
            with pytest.raises(IndexError, match="index out of range in self"):
                model(wrong)
            with pytest.raises(IndexError, match="index out of range in self"):
                fused(wrong)
            assert_same(fused(tokens), model(tokens))
            assert not fused.fallbacks


def test_what_eager_does_better_stays_with_it() -> None:
    large = assert_fuses(nn.Sequential(nn.Embedding(11, 600), nn.Tanh()), draw(450))
    assert not large.runner.program.of_kind(GatherKernel) and large.runner.program.library_calls == 1
    half = assert_fuses(nn.Sequential(nn.Embedding(11, 6).half(), nn.Tanh()), draw(4))
    assert not half.runner.program.of_kind(GatherKernel)
    assert not assert_fuses(nn.Sequential(nn.Embedding(11, 6), nn.Tanh()), draw(0)).runner.program.of_kind(GatherKernel)


def test_artifact_holds_the_kernels_of_embedding_and_product() -> None:
    model, tokens = nn.Sequential(nn.Embedding(11, 6), nn.Linear(6, 5), nn.Tanh()), draw(2, 5)
    files = artifact_files(fused_module(model, (tokens,)), (tokens,), {})
    text = b"".join(data for name, data in files.items() if name.startswith("kernels/hotbench_kernel_"))
    assert b"index out of range in self" in text and b"from hotbench_product_dots import product_dots" in text
    assert "kernels/hotbench_product_dots.py" in files
