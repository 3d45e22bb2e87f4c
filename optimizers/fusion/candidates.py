"""Region by region: the fused kernel against the ATen ops in its place, on the values that the model really has."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

from kernels.compiler.ir import Region
from kernels.compiler.kinds import kernel_name
from kernels.compiler.loaded import LoadedKernel
from kernels.compiler.loop_ir import LoopProgram
from optimizers.fusion.alternatives import Alternative
from optimizers.fusion.capture import Captured
from optimizers.fusion.convolution_layout import arranged
from optimizers.fusion.linear_choice import library_product
from optimizers.fusion.program import Program
from optimizers.fusion.replay import caller, copy_memory, evaluate_node, memory_sizes, part_of
from optimizers.fusion.runtime import KernelCall, Runner
from optimizers.fusion.timing import Comparison, compare


@dataclass(frozen=True, slots=True)
class RegionChoice:
    """What was measured for one kernel: seconds of the ATen ops in its place (first) and of the kernel (second)."""

    kernel: str
    calls: int
    nodes: tuple[str, ...]
    comparison: Comparison
    others: tuple[Alternative, ...] = ()
    """Further ways that were measured, or refused in words: all of them are shown."""

    @property
    def kept(self) -> bool:
        """Return whether the kernel is the fastest way."""
        return self.comparison.ratio > 1.0 and not any(other.kept for other in self.others)


def choose_regions(
    program: Program,
    kernels: Mapping[str, LoadedKernel],
    captured: Captured,
    weights: list[torch.Tensor],
    inputs: list[torch.Tensor],
    known: Sequence[RegionChoice] = (),
) -> list[RegionChoice]:
    """Return a measured choice for each distinct kernel of `program`, equal kernels being measured once.

    known: choices of an earlier program; a kernel that replaces the same nodes as there is not measured again.
    """
    # The ops that would stay instead: those of the graph in the program's own layout.
    captured = arranged(captured, program.lowered.library)
    first: dict[str, int] = {}
    calls: dict[str, int] = {}
    for number, bound in program.bounds.items():
        name = kernel_name(bound.region)
        first.setdefault(name, number)
        calls[name] = calls.get(name, 0) + 1
    nodes_of = {name: program.bounds[number].nodes for name, number in first.items()}
    found = {
        one.kernel: replace(one, calls=calls[one.kernel]) for one in known if nodes_of.get(one.kernel) == one.nodes
    }
    wanted = {name: nodes for name, nodes in nodes_of.items() if name not in found}
    replays, held = _record_kernels(program, kernels, wanted, weights, inputs)
    products = {name for name, body in program.kernels.items() if not isinstance(body, Region)}
    originals = _record_nodes(captured, wanted, products, [*weights, *inputs])
    for name, nodes in wanted.items():
        comparison = compare(originals[name], replays[name], budget_seconds=0.05, block_seconds=0.0005)
        others: tuple[Alternative, ...] = ()
        if name in program.products and comparison.ratio > 1.0:
            replay = replays[name]
            others = (library_product(program.products[name], replay.args, replay),)
        found[name] = RegionChoice(name, calls[name], nodes, comparison, others)
    del held  # the copies that the replayed kernels worked on
    return [found[name] for name in nodes_of]


def _record_kernels(
    program: Program,
    kernels: Mapping[str, LoadedKernel],
    wanted: Collection[str],
    weights: list[torch.Tensor],
    inputs: list[torch.Tensor],
) -> tuple[dict[str, partial[Any]], list[torch.Tensor]]:
    """Return, for each wanted kernel, a call of it on copies of the memory that its first call saw, and the copies."""
    replays: dict[str, partial[Any]] = {}
    held: list[torch.Tensor] = []

    def wrap(name: str, call: KernelCall) -> KernelCall:
        kernel = program.kernels[name]
        if name not in wanted or isinstance(kernel, LoopProgram):
            return call  # a loop is judged with the whole program

        def recorded(*addresses: int) -> None:
            if name not in replays:
                sizes = memory_sizes(kernel)
                copies = [copy_memory(*pair) for pair in zip(addresses, sizes, strict=True)]
                held.extend(copies)
                arguments = tuple(copy.data_ptr() for copy in copies)
                replays[name] = partial(call, *arguments)
            call(*addresses)

        return recorded

    Runner(program, kernels, wrap)(weights, inputs)
    return replays, held


def _record_nodes(
    captured: Captured, wanted: Mapping[str, tuple[str, ...]], products: Collection[str], tensors: list[torch.Tensor]
) -> dict[str, Callable[[], Any]]:
    """Return, for each kernel, a call of the captured nodes that it replaces, on their real operands.

    products: kernels that compute matrix products. Of the other ones, products whose bias a kernel adds are left out
    on both sides: the bias counts as free for ATen.
    """
    nodes = list(captured.graph.graph.nodes)
    parts = {name: part_of(nodes, members, name in products) for name, members in wanted.items()}
    needed = {inner for part in parts.values() for node in part for inner in node.all_input_nodes}
    values: dict[torch.fx.Node, Any] = {}
    last = {inner: node for node in nodes for inner in node.all_input_nodes}
    placeholders = iter(tensors)
    for node in nodes:
        if node.op == "placeholder":
            values[node] = next(placeholders)
        elif node.op == "get_attr":
            values[node] = getattr(captured.graph, str(node.target))
        elif node.op == "call_function":
            values[node] = evaluate_node(node, values)
        for inner in node.all_input_nodes:
            if last[inner] is node and inner not in needed:
                values.pop(inner, None)
    return {name: caller(part, values) for name, part in parts.items()}
