"""A Dynamo graph as eager runs it: its checkpoints draw the same random numbers again when they are recomputed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch._higher_order_ops.wrap import tag_activation_checkpoint, wrap_activation_checkpoint
from torch.utils.checkpoint import checkpoint

_STAND_INS = (tag_activation_checkpoint, wrap_activation_checkpoint)
_CONTEXT = "_checkpoint_context_fn"


def eager_call(graph: torch.fx.GraphModule) -> Callable[..., Any]:
    """Return what runs `graph` op by op, with eager's values and gradients.

    Dynamo's stand-ins for checkpoints leave the random numbers to the compiler: run as they are, backward would
    recompute a dropout with another mask than forward had.
    """
    return _with_checkpoints(graph).forward


def graphs_of(graph: torch.fx.GraphModule) -> Iterator[torch.fx.GraphModule]:
    """Yield the graph and the bodies of its higher-order ops."""
    return (module for module in graph.modules() if isinstance(module, torch.fx.GraphModule))


def _with_checkpoints(graph: torch.fx.GraphModule) -> torch.fx.GraphModule:
    """Return `graph` itself where it has no checkpoint, else a copy that shares its parameters."""
    if not any(node.target in _STAND_INS for part in graphs_of(graph) for node in part.graph.nodes):
        return graph
    nodes = torch.fx.Graph()
    nodes.output(nodes.graph_copy(graph.graph, {}))
    for node in nodes.nodes:
        if node.target in _STAND_INS:
            node.target = _checkpoint
    copy = torch.fx.GraphModule(graph, nodes)
    copy.meta.update(graph.meta)
    for name, body in graph.named_children():
        if isinstance(body, torch.fx.GraphModule):
            setattr(copy, name, _with_checkpoints(body))
    return copy


def _checkpoint(body: torch.fx.GraphModule, *args: Any, **options: Any) -> Any:
    """Return what the body returns. options: those of the checkpoint that the model's author wrote."""
    if _CONTEXT in body.meta:
        options["context_fn"] = body.meta[_CONTEXT]
    # Gradients are the same either way, and only this way can be differentiated with autograd.grad.
    return checkpoint(body, *args, **{**options, "use_reentrant": False})
