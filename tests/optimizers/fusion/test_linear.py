"""Linear layers as kernels: what joins them, what they leave to the library, and weights that change."""

import copy
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from optimizers.fusion.api import build
from optimizers.fusion.capture import capture
from optimizers.fusion.linear import LIBRARY
from optimizers.fusion.lower import lower
from optimizers.fusion.module import FusedModule
from optimizers.fusion.program import Program, build_program
from optimizers.fusion.runtime import Runner
from tests.optimizers.fusion.interpreted import Function, assert_fuses, assert_same, fused_module


def floats(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class Network(nn.Module):
    """Layers drawn at random: bias or none, an activation, a residual where it fits, a norm, a weight used twice."""

    def __init__(self, rng: np.random.Generator) -> None:
        super().__init__()
        widths = [int(width) for width in rng.integers(1, 20, int(rng.integers(2, 6)))]
        self.kinds = [int(kind) for kind in rng.integers(0, 7, len(widths))]
        self.layers = nn.ModuleList(
            nn.Linear(before, after, bias=bool(rng.integers(0, 2))) for before, after in pairwise(widths)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(layer.out_features) for layer in self.layers)
        self.tied = nn.Linear(widths[-1], widths[-1])
        self.width = widths[0]

    def forward(self, x: torch.Tensor) -> Any:
        for layer, norm, kind in zip(self.layers, self.norms, self.kinds, strict=False):
            before, x = x, layer(x)
            if kind == 0:
                x = functional.gelu(x)
            elif kind == 1:
                x = functional.gelu(x, approximate="tanh") * torch.sigmoid(x)
            elif kind == 2:
                x = norm(functional.silu(x))
            elif kind == 3 and before.shape == x.shape:
                x = x + before
            elif kind == 4:
                x = torch.relu(x)
            elif kind == 5:
                x = x.flip(0) - x
        return self.tied(torch.tanh(self.tied(x))), x


def products(fused: FusedModule) -> int:
    program = fused.runner.program
    return sum(bool(bound.product) for bound in program.bounds.values())


def program_of(model: nn.Module, *args: Any, excluded: tuple[str, ...] = ()) -> Program:
    with torch.no_grad():
        return build_program(lower(capture(model, args, {}), frozenset(excluded)), "a test")


@pytest.mark.parametrize("seed", range(25))
def test_random_network_is_eagers(seed: int) -> None:
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    model = Network(rng)
    shape = [(3, 5), (1,), (7,), (2, 1, 4), ()][seed % 5]
    fused = assert_fuses(model, floats(*shape, model.width, seed=seed), strides=False)
    assert fused.runner.program.library_calls <= 2, "flip and products of one element"
    assert products(fused)


def test_bias_activation_and_residual_go_into_the_kernel_of_the_product() -> None:
    linear, x = nn.Linear(9, 9), floats(2, 3, 9)
    fused = assert_fuses(Function(lambda x, w, b: functional.gelu(functional.linear(x, w, b)) + x, **_own(linear)), x)
    assert (fused.runner.program.kernel_calls, fused.runner.program.library_calls) == (1, 0)
    assert len(fused.runner.program.products) == 1


def _own(linear: nn.Linear) -> dict[str, torch.Tensor]:
    return {"w": linear.weight.detach(), "b": linear.bias.detach()}


def test_layers_of_one_shape_share_one_kernel() -> None:
    model = nn.Sequential(*(layer for _ in range(4) for layer in (nn.Linear(6, 6), nn.Tanh())))
    program = assert_fuses(model, floats(3, 6)).runner.program
    assert len(program.products) <= 2 and program.kernel_calls == 4, "the last one stores what is returned"


def test_result_that_two_regions_or_the_caller_read_is_stored_once() -> None:
    w = floats(8, 5)

    def twice(x: torch.Tensor, w: torch.Tensor) -> Any:
        product = x @ w.t()
        return product, product.exp().sum(1), product.sum(0)

    fused = assert_fuses(Function(twice, w=w), floats(4, 5))
    assert products(fused) == 1 and fused.runner.program.library_calls == 0


def test_weights_by_columns_and_strided_inputs_are_read_where_they_are() -> None:
    w = floats(10, 12)

    def forward(x: torch.Tensor, w: torch.Tensor) -> Any:
        return torch.relu(x[:, 1] @ w[2:7]), x[:, :, ::2].transpose(0, 1)[0] @ w[:3, ::4]

    fused = assert_fuses(Function(forward, w=w), floats(4, 3, 5))
    assert products(fused) == 1, "vectors follow neither factor of the second one"


def test_what_no_kernel_computes_stays_with_the_library() -> None:
    wide = assert_fuses(nn.Linear(4, 3).double(), floats(2, 4).double())
    assert not products(wide) and wide.runner.program.library_calls == 1
    single = assert_fuses(nn.Sequential(nn.Linear(4, 1), nn.Tanh()), floats(1, 4))
    assert not products(single) and single.runner.program.library_calls == 1
    hollow = assert_fuses(nn.Sequential(nn.Linear(4, 3), nn.Tanh()), floats(0, 4))
    assert not products(hollow)


def test_excluded_product_stays_alone() -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 5), nn.Tanh())
    whole = program_of(model, floats(3, 4))
    names = [bound.refused for bound in whole.bounds.values()]
    assert len(names) == 2 and all(len(name) == 1 and name[0].endswith(LIBRARY) for name in names)
    less = program_of(model, floats(3, 4), excluded=names[0])
    assert len(less.products) == 1 and less.library_calls == 1
    assert less.kernel_calls == 2, "bias and activation are a kernel still"


def test_weights_changed_in_any_way_are_seen() -> None:
    torch.manual_seed(3)
    model, x = nn.Sequential(nn.Linear(5, 7), nn.GELU(), nn.Linear(7, 4)), floats(6, 5)
    fused = fused_module(model, (x,))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)

    def step() -> None:
        model(x).square().sum().backward()
        optimizer.step()

    def clamp() -> None:
        model[0].weight.data.clamp_(-0.1, 0.1)

    def through_numpy() -> None:
        model[2].weight.detach().numpy()[1, 2] = 40.0

    def load() -> None:
        model.load_state_dict({name: value * 2 + 1 for name, value in model.state_dict().items()})

    def replace() -> None:
        model[0].weight = nn.Parameter(floats(7, 5, seed=9))

    def tie() -> None:
        model[2].bias.data = floats(4, seed=11)

    for change in (step, clamp, through_numpy, load, step, replace, tie):
        change()
        with torch.no_grad():
            assert_same(fused(x), model(x))
    assert not fused.fallbacks


def test_copy_reads_its_own_weights() -> None:
    model, x = nn.Sequential(nn.Linear(5, 7), nn.ReLU()), floats(2, 5)
    fused = fused_module(model, (x,))
    copied = copy.deepcopy(fused)
    with torch.no_grad():
        copied.original[0].weight.zero_()
        assert_same(copied(x), copied.original(x))
        assert_same(fused(x), model(x))


def test_product_that_reads_what_its_region_would_overwrite_stays_apart() -> None:
    w = floats(4, 4)

    def forward(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        first = torch.tanh(x)
        return torch.cat([first, torch.exp(first @ w.t())], 1)

    fused = assert_fuses(Function(forward, w=w), floats(3, 4))
    assert fused.runner.program.library_calls == 0


class Encoder(nn.Module):
    """A pre-norm encoder layer with a gated feed-forward of odd width."""

    def __init__(self) -> None:
        super().__init__()
        self.attention_norm, self.norm = nn.LayerNorm(36), nn.LayerNorm(36)
        self.query, self.key, self.value, self.out = (nn.Linear(36, 36, bias=k % 2 == 0) for k in range(4))
        self.gate, self.up, self.down = nn.Linear(36, 75), nn.Linear(36, 75), nn.Linear(75, 36, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, length, width = x.shape
        y = self.attention_norm(x)
        q, k, v = (part(y).view(batch, length, 3, 12).transpose(1, 2) for part in (self.query, self.key, self.value))
        mixed = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, length, width)
        x = x + self.out(mixed)
        y = self.norm(x)
        gated: torch.Tensor = x + self.down(functional.silu(self.gate(y)) * self.up(y))
        return gated


def test_compiled_encoder_is_as_near_to_float64_as_eager() -> None:
    torch.manual_seed(5)
    model, x = Encoder().eval(), floats(3, 11, 36)
    with torch.no_grad():
        captured = capture(model, (x,), {})
        program, kernels = build(captured)
        assert program.library_calls <= 1 and len(program.products) >= 5, program.source
        fused = FusedModule(model, captured, Runner(program, kernels))
        exact = copy.deepcopy(model).double()(x.double())
        ours, eagers = ((call(x).double() - exact).abs().max() for call in (fused, model))
        assert ours <= 2 * eagers + 1e-7
        model.down.weight.data.mul_(-2.0)
        assert_same(fused(x), model(x))
    assert not fused.fallbacks


def test_a_deep_product_leaves_its_region_to_a_kernel_of_its_own() -> None:
    model = Function(lambda x, y, z: torch.tanh(x.t() @ y) + z)
    fused = assert_fuses(model, floats(1031, 101), floats(1031, 37), floats(101, 37))
    program = fused.runner.program
    assert len(program.products) == 1 and len(program.regions) == 1 and not program.library_calls
