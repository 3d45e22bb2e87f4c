"""Settings of torch's under which a model is recorded: they hold for all threads, so one at a time changes them."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import torch

from optimizers.fusion.recording import Recording

_ALONE = threading.RLock()
_WHOLE = (torch.ops.aten._transformer_encoder_layer_fwd.default, torch.ops.aten._native_multi_head_attention.default)


@contextlib.contextmanager
def compiling() -> Iterator[None]:
    """Let torch.compiler.is_compiling() say so."""
    with _ALONE:
        before = torch.compiler._is_compiling_flag
        torch.compiler._is_compiling_flag = True
        try:
            yield
        finally:
            torch.compiler._is_compiling_flag = before


@contextlib.contextmanager
def layers_in_parts() -> Iterator[None]:
    """Let torch's own transformer layers compute op by op what they compute by one op in inference."""
    with _ALONE:
        before = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)
        try:
            yield
        finally:
            torch.backends.mha.set_fastpath_enabled(before)


def has_layers(recording: Recording) -> bool:
    """Return whether layers were recorded as one op each that are the same op by op.

    With a mask they are not: rows that are masked wholly become NaN in one way, and numbers in the other.
    """
    whole = [step for step in recording.steps if step.op in _WHOLE]
    return bool(whole) and all(_argument(step.op, step.args, dict(step.kwargs), "mask") is None for step in whole)


def _argument(op: torch._ops.OpOverload, args: tuple[object, ...], kwargs: dict[str, object], name: str) -> object:
    named = dict(zip((argument.name for argument in op._schema.arguments), args, strict=False))
    return (named | kwargs).get(name)
