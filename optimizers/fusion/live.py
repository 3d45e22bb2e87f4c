"""One program with the graph that it was made of and the real tensors that it runs on: what a proof is made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils import _pytree as pytree

from analyzer.errors import HotbenchError
from optimizers.fusion.capture import Captured
from optimizers.fusion.module import FusedModule
from optimizers.fusion.program import Program


@dataclass(frozen=True)
class LiveProgram:
    """graph: the key under which a proof keeps the graph's ops, "" for a model's one inference graph."""

    captured: Captured
    program: Program
    kernels: Mapping[str, Any]
    weights: Sequence[torch.Tensor]
    inputs: Sequence[torch.Tensor]
    graph: str = ""


def live_module(module: FusedModule, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> LiveProgram:
    """Return a fused module's program on inputs like those that it was fused for."""
    leaves = pytree.tree_leaves((args, dict(kwargs)))
    inputs = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
    runner, captured = module.runner, module.captured
    if not isinstance(captured, Captured) or not isinstance(runner.program, Program):
        raise HotbenchError(
            "this module's program was read from the cache, which keeps no graph; set HOTBENCH_CACHE to an empty "
            "folder and optimize it again"
        )
    return LiveProgram(captured, runner.program, runner.kernels, module.current_weights(), inputs)
