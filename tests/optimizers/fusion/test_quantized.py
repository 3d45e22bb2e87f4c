"""Quantized linear layers in fused programs: the same answers, one conversion a tensor, and what stays with the op."""

import numpy as np
import pytest
import torch
from torch import nn

import optimizers.quantization.ops  # noqa: F401  registers the op
from kernels.compiler.quantized_gather_ir import QuantizedGatherKernel
from kernels.compiler.quantized_ir import ConvertKernel, QuantizedKernel
from kernels.quantized.cpu_rows import packed_rows
from kernels.quantized.cpu_store import stored_arrays
from kernels.quantized.cpu_weights import bfloat16_weights, codebook_weights, int8_weights, weight_only_weights
from optimizers.artifact import export_module
from optimizers.fusion.against_eager import verify
from optimizers.fusion.api import build
from optimizers.fusion.capture import capture
from optimizers.fusion.module import FusedModule
from optimizers.fusion.runtime import Runner


class Quantized(nn.Module):
    """What a quantized nn.Linear is to fusion: arrays as buffers, and one op."""

    def __init__(self, columns: int, rows: int, kind: str = "int8", bias: bool = True, activation: str = "none"):
        super().__init__()
        self.numbers = (kind, rows, columns, 16 if kind == "grouped-codebook" else 0, activation)
        rng = np.random.default_rng(rows)
        weight = (rng.normal(size=(rows, columns)) / columns**0.5).astype(np.float32)
        if kind == "bfloat16":
            prepared = bfloat16_weights(weight)
        elif kind.startswith("int8"):
            scales = np.abs(weight).max(axis=1) / np.float32(127)
            make = int8_weights if kind == "int8" else weight_only_weights
            prepared = make(np.rint(weight / scales[:, None]).astype(np.int8), scales)
        else:
            groups = (-(-columns // 16),) if kind.startswith("grouped") else ()
            books = rng.normal(size=(rows, *groups, 8)).astype(np.float32) / columns**0.5
            codes = rng.integers(0, 8, (rows, columns)).astype(np.uint8)
            prepared = codebook_weights(codes, books, self.numbers[3] or None)
        self.names = tuple(stored_arrays(prepared))
        for name, array in stored_arrays(prepared).items():
            self.register_buffer(name, torch.from_numpy(np.ascontiguousarray(array)))
        self.register_buffer("bias", torch.from_numpy(rng.normal(size=rows).astype(np.float32)) if bias else None)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        arrays = [getattr(self, name) if name in self.names else None for name in _ARRAYS]
        return torch.ops.hotbench.quantized_linear(x, *arrays, self.bias, *self.numbers)


_ARRAYS = ("panels", "scales", "sums", "tables", "group_scales")


class Block(nn.Module):
    """Two products that read one tensor, an activation between, a residual and a norm: as encoders have them."""

    def __init__(self, kind: str):
        super().__init__()
        self.up, self.gate = Quantized(48, 70, kind), Quantized(48, 70, kind, bias=False)
        self.down, self.norm = Quantized(70, 48, kind), nn.LayerNorm(48)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = nn.functional.gelu(self.up(x)) * torch.sigmoid(self.gate(x))
        return self.norm(x + self.down(hidden))


def fused_program(model: nn.Module, *inputs: torch.Tensor, excluded: tuple[str, ...] = ()):
    """Return the fused module and its program."""
    with torch.no_grad():
        captured = capture(model.eval(), inputs, {})
        program, kernels = build(captured, excluded)
        return FusedModule(model, captured, Runner(program, kernels)), program


def test_block_of_quantized_layers_is_kernels_alone_and_answers_as_eager():
    model, x = Block("int8"), torch.randn(2, 3, 48)
    module, program = fused_program(model, x)
    assert program.library_calls == 0
    assert len(program.of_kind(QuantizedKernel)) == 3
    # One conversion for both products that read x, one for the third.
    conversions = [bound for bound in program.bounds.values() if isinstance(bound.region, ConvertKernel)]
    assert len(conversions) == 2
    with torch.no_grad():
        for given in (x, torch.randn(2, 3, 48)):
            assert verify(model, module, (given,), {}, None).reason == ""
    assert not module.fallbacks


@pytest.mark.parametrize("kind", ["codebook", "bfloat16"])
def test_block_of_another_kind_is_near_what_float64_says(kind):
    model, x = Block(kind), torch.randn(2, 3, 48)
    module, program = fused_program(model, x)
    assert program.library_calls == 0
    with torch.no_grad():
        result = module(x).double()
        assert float((result - model.double()(x.double())).abs().max()) < 0.05
    assert not module.fallbacks


@pytest.mark.parametrize("activation", ["relu", "gelu", "gelu_tanh", "silu"])
def test_activation_of_the_op_is_part_of_the_kernel(activation):
    layer, x = Quantized(32, 20, activation=activation), torch.randn(4, 32)
    module, program = fused_program(layer, x)
    assert program.library_calls == 0 and program.kernel_calls == 2
    with torch.no_grad():
        torch.testing.assert_close(module(x), layer(x), rtol=1e-5, atol=1e-6)


def test_rows_that_do_not_lie_as_rows_are_copied_first():
    layer, x = Quantized(32, 20), torch.randn(32, 5)

    class Turned(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = layer

        def forward(self, x):
            return self.layer(x.t())

    module, program = fused_program(Turned(), x)
    assert program.library_calls == 0
    with torch.no_grad():
        torch.testing.assert_close(module(x), layer(x.t()), rtol=1e-6, atol=1e-6)


def test_every_second_row_is_read_where_it_is():
    layer, x = Quantized(32, 20), torch.randn(10, 32)

    class Strided(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = layer

        def forward(self, x):
            return self.layer(x[::2])

    module, program = fused_program(Strided(), x)
    (conversion,) = program.of_kind(ConvertKernel).values()
    assert conversion.stride == 64 and program.kernel_calls == 2
    with torch.no_grad():
        torch.testing.assert_close(module(x), layer(x[::2]), rtol=1e-6, atol=1e-6)


def test_excluded_product_stays_with_its_op_and_the_rest_is_fused():
    model, x = Block("int8"), torch.randn(2, 3, 48)
    module, program = fused_program(model, x, excluded=("quantized_linear@product",))
    assert program.library_calls == 1 and len(program.of_kind(QuantizedKernel)) == 2
    with torch.no_grad():
        assert verify(model, module, (x,), {}, None).reason == ""


def test_no_rows_leave_the_op_as_it_is():
    layer = Quantized(32, 20)

    class Sums(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = layer

        def forward(self, x):
            return self.layer(x).sum() + torch.ones(3)

    module, program = fused_program(Sums(), torch.randn(0, 32))
    assert not program.of_kind(QuantizedKernel)
    with torch.no_grad():
        assert torch.equal(module(torch.randn(0, 32)), torch.ones(3))


def test_weights_changed_in_place_are_seen_by_the_next_call():
    layer, x = Quantized(32, 20), torch.randn(4, 32)
    module, _ = fused_program(layer, x)
    with torch.no_grad():
        before = module(x)
        layer.scales.mul_(2.0)
        layer.bias.mul_(2.0)
        torch.testing.assert_close(module(x), 2 * before, rtol=1e-6, atol=1e-6)


def test_another_rounding_is_told_from_a_wrong_answer():
    model, x = Block("int8"), torch.randn(2, 3, 48)
    module, _ = fused_program(model, x)
    wrong = Block("int8")
    wrong.load_state_dict(model.state_dict())
    wrong.down.scales.mul_(1.05)
    with torch.no_grad():
        assert verify(wrong, module, (x,), {}, None).reason


class Table(nn.Module):
    """What a quantized nn.Embedding is to fusion."""

    def __init__(self, kind: str):
        super().__init__()
        rng = np.random.default_rng(7)
        bits, self.numbers = (3, ("codebook", 11, 37, 3, 16)) if kind == "codebook" else (8, ("int8", 11, 37, 8, 37))
        if kind == "codebook":
            codes, scales = (
                packed_rows(rng.integers(0, 1 << bits, (11, 37)).astype(np.uint8), bits),
                rng.random((11, 3)),
            )
            self.register_buffer("tables", torch.from_numpy(rng.integers(-127, 128, (11, 3, 8)).astype(np.int8)))
        else:
            codes, scales = rng.integers(-127, 128, (11, 37)).astype(np.int8), rng.random(11)
            self.tables = None
        self.register_buffer("codes", torch.from_numpy(codes))
        self.register_buffer("scales", torch.from_numpy(scales.astype(np.float32)))

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        found = torch.ops.hotbench.quantized_embedding(ids, self.codes, self.scales, self.tables, *self.numbers)
        return torch.tanh(found) + 1.0


@pytest.mark.parametrize("kind", ["int8", "codebook"])
def test_quantized_embedding_is_a_kernel_that_checks_its_indices(kind):
    table, ids = Table(kind), torch.randint(0, 11, (2, 3))
    module, program = fused_program(table, ids)
    assert program.library_calls == 0 and len(program.of_kind(QuantizedGatherKernel)) == 1
    with torch.no_grad():
        torch.testing.assert_close(module(ids), table(ids), rtol=1e-6, atol=1e-6)
        with pytest.raises(IndexError, match="index out of range"):
            module(torch.full((2, 3), 11))


def test_artifact_of_a_quantized_program_gives_the_same_bits(tmp_path):
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.table, self.layer = Table("int8"), Quantized(37, 20, "bfloat16")

        def forward(self, ids):
            return self.layer(self.table(ids))

    ids = torch.randint(0, 11, (2, 3))
    module, _ = fused_program(Both(), ids)
    exported = export_module(module, (ids,), {}, tmp_path / "artifact", {})
    assert exported.max_abs_error_after_reload == 0.0
    shipped = {path.name for path in (tmp_path / "artifact" / "kernels").iterdir()}
    assert {"hotbench_cpu_tile.py", "hotbench_cpu_vector.py", "hotbench_cpu_memory.py"} <= shipped
