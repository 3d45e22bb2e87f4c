"""Indexing by aranges and rows gathered along one axis are kernels; what reads elsewhere stays with the library."""

import pytest
import torch
from torch import nn

from kernels.compiler.gather_ir import GatherKernel
from optimizers.fusion.api import build
from optimizers.fusion.capture import capture
from optimizers.fusion.module import FusedModule
from optimizers.fusion.runtime import Runner


class Apply(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *inputs):
        return self.function(*inputs)


def fused(function, *inputs):
    model = Apply(function)
    with torch.no_grad():
        captured = capture(model, inputs, {})
        program, kernels = build(captured)
        return FusedModule(model, captured, Runner(program, kernels)), program


def mask(x):
    """A mask as transformers make it: rows and keys by broadcast aranges."""
    rows, keys = torch.arange(3).view(3, 1, 1, 1), torch.arange(5) + 0
    return (x > 0)[rows, keys].expand(3, 1, 4, 5).float() + 1.0


def every_second(x):
    return x[torch.arange(4)[::2][:, None], torch.arange(2, 4)] * 2.0


def shifted(x):
    return x[torch.arange(2) + 1, 3 - torch.arange(2)] + x[torch.arange(1), torch.arange(2) * 2 + 1]


@pytest.mark.parametrize("function", [mask, shifted, lambda x: x[torch.arange(2), torch.arange(2)] + 1.0])
def test_index_of_aranges_is_no_library_call(function):
    x = torch.randn(3, 5)
    module, program = fused(function, x)
    assert program.library_calls == 0
    with torch.no_grad():
        assert torch.equal(module(x), function(x))


def test_index_of_what_is_computed_stays_with_the_library_and_is_right():
    x = torch.randn(4, 5)
    module, program = fused(every_second, x)
    assert program.library_calls <= 1
    with torch.no_grad():
        assert torch.equal(module(x), every_second(x))
    positions = torch.tensor([2, 0, 3])
    module, program = fused(lambda x, p: x[p, torch.arange(3)] + 1.0, x, positions)
    assert program.library_calls == 1
    with torch.no_grad():
        assert torch.equal(module(x, positions), x[positions, torch.arange(3)] + 1.0)


@pytest.mark.parametrize("shape", [(1, 9), (9,)])
def test_gather_along_one_axis_is_a_kernel_that_checks_its_indices(shape):
    x, index = torch.arange(9).view(shape), torch.tensor([4, 0, 8, 8]).view(*shape[:-1], 4)
    module, program = fused(lambda x, i: torch.gather(x, -1, i) + 1, x, index)
    assert program.library_calls == 0 and len(program.of_kind(GatherKernel)) == 1
    with torch.no_grad():
        assert torch.equal(module(x, index), torch.gather(x, -1, index) + 1)
        with pytest.raises(IndexError, match="index out of range"):
            module(x, torch.full_like(index, 9))


def test_gather_from_broadcast_rows_is_a_kernel_and_from_many_rows_is_not():
    table, index = torch.arange(9).view(1, 9), torch.tensor([[4, 0], [8, 1], [2, 2]])
    module, program = fused(lambda t, i: torch.gather(t.expand(3, 9), 1, i) + 1, table, index)
    assert program.library_calls == 0
    with torch.no_grad():
        assert torch.equal(module(table, index), torch.gather(table.expand(3, 9), 1, index) + 1)
    rows = torch.randn(3, 9)
    module, program = fused(lambda t, i: torch.gather(t, 1, i) + 1, rows, index)
    assert program.library_calls == 1
    with torch.no_grad():
        assert torch.equal(module(rows, index), torch.gather(rows, 1, index) + 1)
