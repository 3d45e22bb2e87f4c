"""Tier d of kernels that run as one: a program with independent kernels of different shapes, on a real device."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from tests.cuda.device import missing

torch = pytest.importorskip("torch")

WHY = missing()
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(WHY is not None, reason=f"no GPU test: {WHY}")]


def test_independent_kernels_are_one_launch_and_compute_what_they_compute_alone() -> None:
    from optimizers.fusion.capture import capture
    from optimizers.fusion.cuda_build import STRAIGHT, cuda_program
    from optimizers.fusion.cuda_kernels import prepare
    from optimizers.fusion.cuda_runner import CudaRunner
    from optimizers.fusion.cuda_together import Together
    from optimizers.fusion.module import FusedModule
    from tests.optimizers.fusion.branches import Branches

    model = Branches().cuda().eval()
    args = (torch.randn(6, 40, device="cuda"), torch.randn(9, 24, device="cuda"))
    with torch.no_grad():
        captured = capture(model, args, {})
        program, kernels = cuda_program(captured, "a test", forms=(STRAIGHT,))
        prepare(kernels)
        together = Together()
        joined = FusedModule(model, captured, CudaRunner(program, kernels, together=together))
        alone = FusedModule(model, captured, CudaRunner(program, kernels))
        for _ in range(3):
            fresh: tuple[Any, ...] = tuple(torch.randn_like(value) for value in args)
            got, single = joined(*fresh), alone(*fresh)
            wanted = copy.deepcopy(model).double()(*(value.double() for value in fresh))
            for one, other, exact in zip(got, single, wanted, strict=True):
                assert torch.equal(one, other)
                torch.testing.assert_close(one.double(), exact, rtol=2e-5, atol=2e-5)
    assert together.groups and not together.refused and not joined.fallbacks
