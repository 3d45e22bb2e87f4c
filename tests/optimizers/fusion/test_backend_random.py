"""Graphs drawn at random, through AOTAutograd: outputs and gradients of the inputs equal eager's."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.fx.experimental.proxy_tensor import make_fx

from optimizers.fusion import api
from optimizers.fusion.backend_aot import compile_graph
from optimizers.fusion.backend_choice import unmeasured
from tests.optimizers.fusion.compiled import squares
from tests.optimizers.fusion.interpreted import interpreted
from tests.optimizers.fusion.test_random_programs import EXTENTS, RandomProgram


def refuse(kind: str, reason: str) -> None:
    raise AssertionError(f"{kind}: {reason}")


def leaves_of(inputs: tuple[torch.Tensor, ...]) -> list[torch.Tensor]:
    return [tensor.clone().requires_grad_() for tensor in inputs]


def step(call: Any, leaves: list[torch.Tensor]) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    outputs = list(call(*leaves))
    gradients = torch.autograd.grad(squares(outputs), leaves, allow_unused=True, materialize_grads=True)
    return [out.detach() for out in outputs], list(gradients)


def check(seed: int, steps: int, extents: list[int]) -> None:
    generator = torch.Generator().manual_seed(seed)
    a, b, c = extents
    inputs = tuple(torch.randn(shape, generator=generator) for shape in ((a, b, c), (b, c), (c, 1)))
    function = RandomProgram(seed, steps)

    def call(*args: torch.Tensor) -> list[torch.Tensor]:
        return function(*args)

    graph = make_fx(call)(*inputs)
    leaves = leaves_of(inputs)
    compiled = compile_graph(graph, leaves, unmeasured, refuse)
    reference = step(function, leaves_of(inputs))
    for _ in range(2):
        result = step(compiled.call, leaves)
        for ours, theirs in zip(result, reference, strict=True):
            scale = max(float(t.abs().max()) for t in theirs)
            # A floor, since a program may subtract equal numbers and return rounding errors.
            torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5 * max(scale, 1.0))


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.integers(0, 10**9), st.integers(1, 16), st.lists(st.sampled_from(EXTENTS), min_size=3, max_size=3))
def test_random_graph_trains_as_eager(seed: int, steps: int, extents: list[int]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(api, "compile_kernels", interpreted)
        check(seed, steps, extents)
