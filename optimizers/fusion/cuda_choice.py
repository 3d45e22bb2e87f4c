"""Which program a model on a CUDA device gets: the form, with loops or without them, that is measured to be fastest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

from kernels.cuda import support as cuda_support
from optimizers.fusion.capture import Captured, UnfusableError
from optimizers.fusion.cuda_build import FORMS, cuda_program
from optimizers.fusion.cuda_kernels import prepare
from optimizers.fusion.cuda_runner import CudaRunner
from optimizers.fusion.cuda_together import Together
from optimizers.fusion.module import FusedModule
from optimizers.fusion.program import Program
from optimizers.fusion.timing import clock_of, compare

Right = Callable[[FusedModule], bool]


@dataclass(frozen=True)
class CudaVariant:
    """One program for the model on the device. rolled: with loops. together: with small kernels launched as one."""

    program: Program
    kernels: Mapping[str, Any]
    rolled: bool
    excluded: tuple[str, ...] = ()
    choices: tuple[Any, ...] = ()
    together: Together | None = None

    def module(self, model: torch.nn.Module, captured: Captured) -> FusedModule:
        """Return the model with this program in its place."""
        return FusedModule(model, captured, CudaRunner(self.program, self.kernels, together=self.together))


def best_on_cuda(
    captured: Captured, title: str, model: torch.nn.Module, call: Callable[[FusedModule], object], right: Right
) -> CudaVariant:
    """Return the fastest of the forms that a program can have, among those that fit the device and are right.

    call: runs a module on the captured inputs. right: whether a module's outputs are accepted; asked of loops alone.
    Raises UnfusableError where nothing can be fused, and where this machine cannot compile or launch CUDA kernels.
    """
    require_cuda()
    best: CudaVariant | None = None
    refused: list[UnfusableError] = []
    for form in reversed(FORMS):
        try:
            variant = _variant(captured, title, form)
        except UnfusableError as error:
            refused.append(error)
            continue
        if best is None:
            best = variant
            continue
        if not variant.rolled or variant.program.digest() == best.program.digest():
            continue
        first, second = best.module(model, captured), variant.module(model, captured)
        if right(second):
            comparison = compare(partial(call, first), partial(call, second), 0.5, clock=clock_of(captured.device))
            best = variant if comparison.ratio > 1.0 else best
    if best is None:
        raise refused[0]
    return _joined_if_faster(best, captured, model, call, right)


def _joined_if_faster(
    variant: CudaVariant,
    captured: Captured,
    model: torch.nn.Module,
    call: Callable[[FusedModule], object],
    right: Right,
) -> CudaVariant:
    """Return the variant with its independent kernels launched as one, where some can be and it is measured faster."""
    if variant.program.kernel_calls < 2:
        return variant
    joined = replace(variant, together=Together())
    first, second = variant.module(model, captured), joined.module(model, captured)
    # Its first call compiles: only then it is known whether anything is launched together.
    if not right(second) or joined.together is None or not joined.together.groups:
        return variant
    comparison = compare(partial(call, first), partial(call, second), 0.5, clock=clock_of(captured.device))
    return joined if comparison.ratio > 1.0 else variant


def require_cuda() -> None:
    """Return nothing; raise UnfusableError, saying what is missing, where no CUDA kernel can be launched."""
    description = cuda_support.describe()
    if not description.ready:
        raise UnfusableError(f"the model is on a CUDA device, and {description.message}")


def _variant(captured: Captured, title: str, form: str) -> CudaVariant:
    program, kernels = cuda_program(captured, title, forms=(form,))
    prepare(kernels)
    return CudaVariant(program, kernels, bool(program.loops))
