"""Inputs of a model, however they are given, as a tuple of (args, kwargs); and which of their rows are padding."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch

from analyzer.workload import Arguments, Workload
from optimizers.quantization.errors import CompressionError

SEEDS = 8
"""Batches that are drawn of a function of the seed, unless a workload names its calibration seeds."""
_MOST = 100_000


def as_batches(given: Any, what: str, seeds: Iterable[int] | None = None) -> tuple[Arguments, ...]:
    """Return the batches of what a user gives.

    given: None; a Workload; a function of the seed that returns (args, kwargs); a tensor, or a tuple of arguments, or a
    dict of keyword arguments, for one batch; a list or another iterable of such.
    seeds: what a function is called with; default 0 to 7, of a workload its own calibration seeds.
    Raises CompressionError, which names `what`, for anything else.
    """
    if given is None:
        return ()
    if isinstance(given, Workload):
        own = given.calibration or range(SEEDS)
        return tuple(given.batch(seed) for seed in (own if seeds is None else seeds))
    if isinstance(given, torch.Tensor | tuple | dict):
        return (_as_arguments(given, what),)
    if callable(given):
        return tuple(
            _as_arguments(_drawn(given, seed, what), what) for seed in (range(SEEDS) if seeds is None else seeds)
        )
    if not isinstance(given, Iterable) or isinstance(given, str | bytes):
        raise CompressionError(
            f"{what} is a {type(given).__name__}; give tensors, a list of batches, or a function of the seed"
        )
    found = tuple(_as_arguments(item, what) for item in _limited(given, what))
    if not found:
        raise CompressionError(f"{what} holds no batch; give at least one")
    return found


def _limited(given: Iterable[Any], what: str) -> Iterator[Any]:
    for number, item in enumerate(given):
        if number == _MOST:
            raise CompressionError(f"{what} has more than {_MOST} batches; give fewer (an endless iterator has no end)")
        yield item


def _drawn(function: Callable[[int], Any], seed: int, what: str) -> Any:
    try:
        return function(seed)
    except Exception as error:
        raise CompressionError(f"{what}({seed}) raised {type(error).__name__}: {error}; mend the function") from error


def _as_arguments(item: Any, what: str) -> Arguments:
    if isinstance(item, torch.Tensor):
        return (item,), {}
    if isinstance(item, dict) or (hasattr(item, "keys") and hasattr(item, "__getitem__")):
        return (), dict(item)
    if isinstance(item, tuple | list):
        if len(item) == 2 and isinstance(item[0], tuple) and isinstance(item[1], dict):
            return item[0], dict(item[1])
        return tuple(item), {}
    raise CompressionError(f"a batch of {what} is a {type(item).__name__}; give a tensor, (args…), or {{name: tensor}}")


def padding_mask(model: torch.nn.Module, batch: Arguments, name: str | None) -> torch.Tensor | None:
    """Return the argument `name` of a batch, a mask [batch, length] that is 0 where tokens are padding, if it has one.

    It is found by keyword or by the name of the parameter of the model's forward.
    """
    args, kwargs = batch
    if name is None:
        return None
    value = kwargs.get(name)
    if value is None:
        names = list(inspect.signature(model.forward).parameters)
        position = names.index(name) if name in names else len(args)
        value = args[position] if position < len(args) else None
    return value.bool() if isinstance(value, torch.Tensor) and value.dim() == 2 else None
