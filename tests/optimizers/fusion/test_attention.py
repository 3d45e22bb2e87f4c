"""Attention becomes one kernel however it is written, with eager's values; what is none, or cannot be one, stays."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from kernels.compiler.attention_ir import AttentionKernel
from optimizers.fusion.api import fuse
from optimizers.fusion.attention_match import find_attentions
from optimizers.fusion.capture import capture
from optimizers.fusion.lower import lower
from optimizers.fusion.module import FusedModule
from optimizers.fusion.program import build_program
from tests.optimizers.fusion.interpreted import Function, assert_fuses

BATCH, HEADS, QUERIES, KEYS, DEPTH, WIDTH = 2, 3, 5, 7, 4, 6


def floats(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed + sum(shape)))


def factors(queries: int = QUERIES, keys: int = KEYS) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """q, k and v as they come from projections: heads inside rows."""
    shapes = ((queries, DEPTH), (keys, DEPTH), (keys, DEPTH))
    return tuple(floats(BATCH, rows, HEADS, width).transpose(1, 2) for rows, width in shapes)  # type: ignore[return-value]


def attentions(module: FusedModule) -> list[Any]:
    return list(module.runner.program.of_kind(AttentionKernel).values())


def spelled_out(change: Callable[[torch.Tensor, Any], torch.Tensor]) -> Callable[..., torch.Tensor]:
    def forward(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: Any = None) -> torch.Tensor:
        weights = torch.softmax(change(q @ k.transpose(-1, -2), mask), dim=-1)
        return weights @ v

    return forward


LOWEST = torch.finfo(torch.float32).min
FORMS: dict[str, tuple[Callable[..., torch.Tensor], Callable[[torch.Tensor, Any], torch.Tensor]]] = {
    "plain": (lambda: floats(1), lambda s, m: s),
    "scaled": (lambda: floats(1), lambda s, m: s / math.sqrt(DEPTH) * 3),
    "added": (lambda: floats(BATCH, 1, 1, KEYS), lambda s, m: s / 2 + m),
    "added first": (lambda: floats(QUERIES, KEYS), lambda s, m: m + s * 0.25),
    "filled": (lambda: floats(BATCH, 1, QUERIES, KEYS) > 1, lambda s, m: (s / 2).masked_fill(m, -math.inf)),
    "filled with a number": (lambda: floats(QUERIES, KEYS) > 0, lambda s, m: s.masked_fill(m, LOWEST)),
    "chosen": (lambda: floats(QUERIES, KEYS) > -1, lambda s, m: torch.where(m, s / 3, -1e4)),
    "chosen otherwise": (lambda: floats(1, KEYS) > 1, lambda s, m: torch.where(m, -math.inf, s / 3)),
}


@pytest.mark.parametrize("form", FORMS)
def test_attention_spelled_out_is_one_kernel(form: str) -> None:
    mask, change = FORMS[form]
    fused = assert_fuses(spelled_out(change), *factors(), mask(), strides=False)
    assert len(attentions(fused)) == 1 and not fused.runner.program.library_calls


def test_it_is_found_in_three_axes_and_in_two_where_it_is_large() -> None:
    q, k, v = (tensor[0] for tensor in factors())
    x, y = floats(70, 16), floats(60, 16)
    for count, arguments in ((1, (q, k, v)), (1, (x, y, y)), (0, (q[0], k[0], v[0]))):
        fused = assert_fuses(spelled_out(lambda s, m: s / 2), *arguments)
        assert len(attentions(fused)) == count


MASKS: dict[str, Callable[[], torch.Tensor | None]] = {
    "none": lambda: None,
    "row": lambda: floats(BATCH, 1, 1, KEYS),
    "square": lambda: floats(QUERIES, KEYS),
    "bool": lambda: floats(BATCH, 1, QUERIES, KEYS) > -0.5,
}


@pytest.mark.parametrize("mask", MASKS)
def test_atens_own_op_is_one_kernel(mask: str) -> None:
    given = MASKS[mask]()
    function = functional.scaled_dot_product_attention
    fused = assert_fuses(lambda q, k, v: function(q, k, v, given), *factors()) if given is None else None
    if given is not None:
        fused = assert_fuses(lambda q, k, v, m: function(q, k, v, m, scale=0.3), *factors(), given)
    assert fused is not None and len(attentions(fused)) == 1


def test_causal_attention_is_one_kernel() -> None:
    fused = assert_fuses(
        lambda q, k, v: functional.scaled_dot_product_attention(q, k, v, is_causal=True), *factors(QUERIES, QUERIES)
    )
    assert [kernel.causal for kernel in attentions(fused)] == [True]


@pytest.mark.parametrize("own", [True, False])
def test_a_query_that_sees_nothing_gets_what_eager_gives(own: bool) -> None:
    mask = floats(QUERIES, KEYS)
    mask[3] = -math.inf
    form = functional.scaled_dot_product_attention if own else spelled_out(lambda s, m: s + m)
    q, k, v = factors()
    result = assert_fuses(form, q, k, v, mask, strides=False)(q, k, v, mask)
    assert (result[:, :, 3] == 0).all() if own else result[:, :, 3].isnan().all()


def test_the_result_is_stored_where_the_next_layer_reads_it() -> None:
    """No copy of q, k, v or of the result is left: one kernel in all."""

    def forward(x: torch.Tensor) -> torch.Tensor:
        q, k, v = x.view(BATCH, QUERIES, 3, HEADS, DEPTH).permute(2, 0, 3, 1, 4)
        weights = torch.softmax(q @ k.transpose(2, 3) / 2, dim=-1)
        return (weights @ v).transpose(1, 2).reshape(BATCH, QUERIES, HEADS * DEPTH)

    fused = assert_fuses(forward, floats(BATCH, QUERIES, 3 * HEADS * DEPTH), kernels=1)
    assert len(attentions(fused)) == 1


STAYING: dict[str, Callable[..., Any]] = {
    "weights are returned": lambda q, k, v: ((w := torch.softmax(q @ k.transpose(2, 3), -1)) @ v, w),
    "scores are returned": lambda q, k, v: (torch.softmax(s := q @ k.transpose(2, 3), -1) @ v, s),
    "softmax over queries": lambda q, k, v: torch.softmax(q @ k.transpose(2, 3), -2) @ v,
    "two masks": lambda q, k, v: torch.softmax((q @ k.transpose(2, 3) + 1.0) * 2.0 + q[..., :1], -1) @ v,
    "scaled behind the mask": lambda q, k, v: torch.softmax((q @ k.transpose(2, 3) + q[..., :1]) * 2.0, -1) @ v,
    "something between": lambda q, k, v: torch.softmax((q @ k.transpose(2, 3)).tanh(), -1) @ v,
    "no first product": lambda q, k, v: torch.softmax(q[..., :1] * k[..., 0].unsqueeze(2), -1) @ v,
}


@pytest.mark.parametrize("form", STAYING)
def test_what_is_no_attention_stays(form: str) -> None:
    fused = assert_fuses(STAYING[form], *factors(), strides=False)
    assert not attentions(fused)


def test_a_mask_on_other_axes_than_the_operands_stays() -> None:
    def forward(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        scores = (q @ k.transpose(-1, -2)).view(4, 2, 2, QUERIES, KEYS) + mask
        return torch.softmax(scores.view(2, 2, 4, QUERIES, KEYS), -1) @ v

    operands = [floats(2, 2, 4, rows, DEPTH) for rows in (QUERIES, KEYS, KEYS)]
    assert not attentions(assert_fuses(forward, *operands, floats(1, 2, 1, QUERIES, KEYS)))
    assert attentions(assert_fuses(forward, *operands, floats(QUERIES, KEYS)))


@pytest.mark.parametrize("factor", [math.inf, math.nan, 1e39])
def test_scores_that_become_infinite_stay(factor: float) -> None:
    fused = assert_fuses(spelled_out(lambda s, m: s * factor), *factors())
    assert not attentions(fused)


def test_float64_and_dropout_stay() -> None:
    double = [tensor.double() for tensor in factors()]
    fused = assert_fuses(lambda q, k, v: functional.scaled_dot_product_attention(q, k, v) * 2, *double)
    assert not attentions(fused)


def test_an_empty_axis_stays() -> None:
    q, k, v = factors()
    fused = assert_fuses(lambda q, k, v, x: (spelled_out(lambda s, m: s)(q, k, v), x + 1), q[:0], k[:0], v[:0], q)
    assert not attentions(fused)


def test_what_was_measured_slower_stays_with_the_library() -> None:
    model, args = Function(spelled_out(lambda s, m: s / 2)), factors()
    captured = capture(model, args, {})
    (bound,) = build_program(lower(captured), "a test").bounds.values()
    program = build_program(lower(captured, bound.refused), "a test")
    assert not program.of_kind(AttentionKernel) and program.library_calls == 2
    assert not find_attentions(captured.graph.graph, bound.nodes)


class SelfAttention(nn.Module):
    """Several heads over rows, with a mask; as people write it."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.into, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        batch, rows, width = x.shape
        q, k, v = self.into(x).view(batch, rows, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return x + self.out(mixed.transpose(1, 2).reshape(batch, rows, width))


def test_a_compiled_layer_gives_eagers_results_after_its_weights_changed() -> None:
    torch.manual_seed(3)
    model, x = SelfAttention(24, 3).eval(), torch.randn(2, 11, 24)
    mask = torch.zeros(2, 1, 1, 11).masked_fill(torch.rand(2, 1, 1, 11) < 0.3, -math.inf)
    result = fuse(model, (x, mask), min_gain=-1e6)
    assert isinstance(result, FusedModule), result
    with torch.no_grad():
        model.into.weight.mul_(1.5)
        torch.testing.assert_close(result(x, mask), model(x, mask), rtol=1e-5, atol=1e-5)
        other = torch.randn(2, 11, 24)
        torch.testing.assert_close(result(other, mask), model(other, mask), rtol=1e-5, atol=1e-5)
    assert not result.fallbacks
