"""One functional ATen graph as a boxed callable: a fused program where it is measured faster, else the graph itself."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

import torch
from torch.utils import _pytree as pytree

from optimizers.fusion.api import graph_hash
from optimizers.fusion.backend_choice import Chooser, Chosen
from optimizers.fusion.backend_decision import line_of
from optimizers.fusion.backend_partition import EXACT
from optimizers.fusion.capture import Captured
from optimizers.fusion.refusals import UnfusableError, refuse_effects
from optimizers.fusion.runtime import Runner

_EMPTY = pytree.tree_structure(())
_log = logging.getLogger("hotbench")

Run = Callable[[list[Any]], Any]


class GraphProgram:
    """Runs one graph of AOTAutograd's; built from the real tensors of its first call.

    kind: "forward", "backward" or "inference". hash: of the graph, once it is built. chosen: its program, if any.
    reason: why the graph runs op by op, "" where a program runs. failed: that reason is a failure of ours.
    """

    def __init__(
        self,
        kind: str,
        graph: torch.fx.GraphModule,
        choose: Chooser,
        parameters: set[int],
        report: Callable[[str, str], None],
    ) -> None:
        self.kind = kind
        self.reason = ""
        self.failed = False
        self.hash = ""
        self.chosen: Chosen | None = None
        self._graph = graph
        self._choose = choose
        self._parameters = parameters
        self._report = report
        self._lock = threading.Lock()
        self._run: Run | None = None

    def __call__(self, args: list[Any]) -> Any:
        """Return the flat outputs; `args` is emptied, so that autograd's tensors are freed early."""
        run = self._run or self._prepared(args)
        return run(args)

    def _prepared(self, args: list[Any]) -> Run:
        with self._lock:
            if self._run is None:
                try:
                    self._run = self._build(args)
                except UnfusableError as error:
                    # With a cause it is no property of the graph, but something that was raised in building.
                    if error.__cause__ is None:
                        self.reason = str(error)
                    else:
                        self._failed(error.__cause__)
                except Exception as error:
                    # Whatever goes wrong in building must not reach a user whose model runs without it.
                    self._failed(error)
                self._run = self._run or self._op_by_op
            return self._run

    def _failed(self, error: BaseException) -> None:
        _log.debug("building a program failed", exc_info=error)
        self.reason, self.failed = line_of(error), True
        self._report(self.kind, self.reason)

    def _op_by_op(self, args: list[Any]) -> Any:
        taken = list(args)
        args.clear()
        return self._graph(*taken)

    def _build(self, args: list[Any]) -> Run:
        graph = self._graph.graph
        placeholders = graph.find_nodes(op="placeholder")
        outputs = list(graph.find_nodes(op="output")[0].args[0])
        static = [
            k for k, arg in enumerate(args) if isinstance(arg, torch.Tensor) and arg.data_ptr() in self._parameters
        ]
        moving = [k for k, node in enumerate(placeholders) if k not in static and _is_used(node)]
        captured = _reordered(self._graph, [placeholders[k] for k in (*static, *moving)], outputs, len(static))
        weights, inputs = [args[k] for k in static], [args[k] for k in moving]
        exact = [node.name for node in captured.graph.graph.nodes if node.meta.get(EXACT)]
        self.hash = graph_hash(captured)
        self.chosen = chosen = self._choose(captured, weights, inputs, exact)
        passed = {node: k for k, node in enumerate(placeholders)}
        # Where an output is an argument, the caller must get that very tensor: autograd knows it by identity.
        template = [passed.get(item) if isinstance(item, torch.fx.Node) else None for item in outputs]
        strides = [tuple(placeholders[k].meta["val"].stride()) for k in moving]
        return _runner(Runner(chosen.program, chosen.kernels), static, moving, template, strides)


def _runner(
    runner: Runner, static: list[int], moving: list[int], template: list[int | None], expected: list[tuple[int, ...]]
) -> Run:
    simple = all(position is None for position in template)

    def run(args: list[Any]) -> Any:
        taken = list(args)
        args.clear()
        weights = [taken[k] for k in static]
        inputs = [
            value if value.stride() == strides else _restrided(value, strides)
            for value, strides in zip([taken[k] for k in moving], expected, strict=True)
        ]
        made = runner(weights, inputs)
        if simple:
            return made
        following = iter(made)
        return [next(following) if position is None else taken[position] for position in template]

    return run


def _is_used(placeholder: torch.fx.Node) -> bool:
    """Return whether the program needs it. Raises UnfusableError for a number that the graph computes with."""
    value = placeholder.meta.get("val")
    if isinstance(value, torch.Tensor):
        return True
    if all(user.op == "output" for user in placeholder.users):
        return False
    raise UnfusableError(f"an input of the graph is a {type(value).__name__} that it computes with")


def _refuse_higher_order(module: torch.fx.GraphModule) -> None:
    """Refuse what calls graphs, or keeps random states that are drawn again: only op by op is its order certain."""
    for node in module.graph.nodes:
        if isinstance(node.target, torch._ops.HigherOrderOperator):
            raise UnfusableError(f"the graph holds the higher-order op {node.target}")


def _restrided(value: torch.Tensor, strides: tuple[int, ...]) -> torch.Tensor:
    return torch.empty_strided(value.shape, strides, dtype=value.dtype).copy_(value)


def _reordered(
    module: torch.fx.GraphModule, placeholders: list[torch.fx.Node], outputs: list[Any], weights: int
) -> Captured:
    """Return the graph with these placeholders in this order, and without the outputs that are placeholders."""
    graph = torch.fx.Graph()
    copies: dict[torch.fx.Node, torch.fx.Node] = {}
    for node in (*placeholders, *(n for n in module.graph.nodes if n.op not in ("placeholder", "output"))):
        copies[node] = graph.node_copy(node, lambda inner: copies[inner])
    computed = [item for item in outputs if not (isinstance(item, torch.fx.Node) and item.op == "placeholder")]
    graph.output([copies[item] if isinstance(item, torch.fx.Node) else item for item in computed])
    result = torch.fx.GraphModule(module, graph)
    names = tuple(node.name for node in placeholders[:weights])
    _refuse_higher_order(result)
    refuse_effects(result, names)
    return Captured(result, names, (), _EMPTY, _EMPTY)
