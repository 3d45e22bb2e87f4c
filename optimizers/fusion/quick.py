"""The shortest way from a module's call to its program, for calls like the one before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch

from optimizers.fusion.runtime import Runner

if TYPE_CHECKING:
    from optimizers.fusion.cuda_runner import CudaRunner

Quick = Callable[[tuple[Any, ...]], tuple[Any, ...] | None]
"""tensor inputs -> flat outputs, None where the call has to be looked at in full."""
_address = torch.Tensor.data_ptr
_threads = torch.get_num_threads


def quick_call(
    holds: Callable[[tuple[Any, ...]], bool], runner: Runner | CudaRunner, weights: Sequence[torch.Tensor]
) -> Quick:
    """Return the program as the runner has bound it for the weights, to be called where `holds(inputs)`."""
    if not isinstance(runner, Runner):
        return lambda args: runner(weights, args) if holds(args) else None
    run, addresses, threads, lock = runner.binding()

    def alone(args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        if holds(args) and [*map(_address, weights)] == addresses and _threads() == threads:
            return run(*args)
        return None

    def one_by_one(args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        if holds(args) and [*map(_address, weights)] == addresses and _threads() == threads:
            with lock:
                return run(*args)
        return None

    return one_by_one if runner.program.arena_bytes else alone
