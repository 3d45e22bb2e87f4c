"""The proof of a program, region by region: what each kernel replaced, every way measured, how right it is."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch

from kernels.compiler.ir import Region
from kernels.compiler.kinds import kernel_name, kind_of
from kernels.compiler.loaded import LoadedKernel
from optimizers.fusion.alternatives import Alternative, two_ways
from optimizers.fusion.candidates import RegionChoice
from optimizers.fusion.capture import Captured
from optimizers.fusion.convolution_layout import arranged
from optimizers.fusion.errors import Errors
from optimizers.fusion.program import Program
from optimizers.fusion.proof_costs import kernel_bytes
from optimizers.fusion.proof_eager import (
    Nodes,
    Values,
    costs_of,
    eager_call,
    eager_errors,
    op_name,
    op_nodes,
    visit_parts,
)
from optimizers.fusion.proof_kernels import MOST_WORK, outputs_of, visit_kernels
from optimizers.fusion.proof_kinds import provable, work_of
from optimizers.fusion.proof_record import RegionProof
from optimizers.fusion.replay import part_of
from optimizers.fusion.runtime import KernelCall
from optimizers.fusion.timing import compare

_log = logging.getLogger("hotbench")
Tensors = list[torch.Tensor]


@dataclass
class _Found:
    """What becomes known of one kernel while the program and the graph run."""

    calls: list[tuple[str, ...]]
    """For each call the nodes that it replaces."""
    errors: Errors | None = None
    eager_errors: Errors | None = None
    unproven: str = ""
    ways: tuple[Alternative, ...] = ()
    replay: tuple[KernelCall, Tensors] | None = None
    """A kernel that nobody has timed alone yet, and memory to run it on."""
    flops: float = 0.0
    bytes_before: int = 0
    bytes_after: int = 0
    notes: list[str] = field(default_factory=list)


def laid_out(captured: Captured, program: Program) -> Captured:
    """Return the captured graph in the memory layout of the program, with the copies between layouts as nodes."""
    return arranged(captured, program.lowered.library)


def graph_ops(captured: Captured, program: Program) -> tuple[tuple[str, str], ...]:
    """Return the ops of a program's graph that are no views, as (name of the node, name of the op), in order."""
    return tuple((node.name, op_name(node)) for node in op_nodes(laid_out(captured, program).graph))


def prove_regions(
    captured: Captured,
    program: Program,
    kernels: Mapping[str, LoadedKernel],
    choices: Sequence[RegionChoice],
    weights: Tensors,
    inputs: Tensors,
    graph: str = "",
) -> tuple[RegionProof, ...]:
    """Return the proof of each kernel of `program`, and of each region that was measured and is not in it.

    weights, inputs: real tensors; both the program and the graph run once on them, with errors against float64
    computed on what each kernel meets there. graph: the key under which the graph's ops are kept.
    """
    captured = laid_out(captured, program)
    found = {name: _Found(calls) for name, calls in replaced_nodes(program).items()}
    chosen = {choice.kernel: choice for choice in choices}
    with torch.no_grad():
        _prove_kernels(program, kernels, weights, inputs, found, chosen)
        first = {name: item.calls[0] for name, item in found.items()}
        visit_parts(captured.graph, first, [*weights, *inputs], partial(_prove_eager, found), products_of(program))
    position = {name: k for k, (name, _) in enumerate(graph_ops(captured, program))}
    kept = [_record(name, item, program, chosen.get(name), position, graph) for name, item in found.items()]
    nodes = list(captured.graph.graph.nodes)
    refused = [_refused(c, nodes, position, graph) for c in chosen.values() if c.kernel not in found]
    return (*kept, *refused)


def proven(prove: Callable[[], tuple[RegionProof, ...]]) -> tuple[tuple[RegionProof, ...], str]:
    """Return what `prove` gives and "", or nothing and what went wrong: a candidate must not be lost for its proof."""
    try:
        return prove(), ""
    except Exception as error:
        problem = _failure("proving the regions", error)
        _log.warning("%s", problem)
        return (), problem


def replaced_nodes(program: Program) -> dict[str, list[tuple[str, ...]]]:
    """Return, for each kernel of the program by name, the nodes that each of its calls replaces."""
    found: dict[str, list[tuple[str, ...]]] = {}
    for unit in program.units:
        if unit.kind == "group":
            bound = program.bounds[unit.number]
            found.setdefault(kernel_name(bound.region), []).append(bound.nodes)
        else:
            target: Any = program.lowered.calls[unit.number].target
            if getattr(target, "name", None) in program.kernels and hasattr(target, "nodes"):
                found.setdefault(target.name, []).append(tuple(target.nodes))
    return found


def products_of(program: Program) -> frozenset[str]:
    """Return the names of the kernels that compute the products among their ops, and do not only add a bias."""
    return frozenset(name for name, body in program.kernels.items() if not isinstance(body, Region))


def _prove_kernels(
    program: Program,
    kernels: Mapping[str, LoadedKernel],
    weights: Tensors,
    inputs: Tensors,
    found: Mapping[str, _Found],
    chosen: Mapping[str, RegionChoice],
) -> None:
    for name, item in found.items():
        if not provable(program.kernels[name]):
            item.unproven = "there is no float64 interpreter for this kind of kernel yet"

    def visit(name: str, call: KernelCall, memory: Tensors) -> None:
        kernel = program.kernels[name]
        item = found[name]
        item.bytes_after = kernel_bytes(kernel)
        if name not in chosen:
            item.replay = (call, [copy.clone() for copy in memory])
        if work_of(kernel) > MOST_WORK:
            item.unproven = "it computes too many values to be repeated in float64 in a few seconds"
            return
        try:
            item.errors = outputs_of(kernel, call, memory).errors()
        except Exception as error:
            item.unproven = _failure("comparing the kernel with float64", error)
        else:
            if not item.errors.values and not item.errors.unequal:
                item.unproven = "it returns no floating value that could be compared"

    visit_kernels(program, kernels, weights, inputs, visit)


def _prove_eager(found: Mapping[str, _Found], name: str, part: Nodes, values: Values) -> None:
    item = found[name]
    item.flops, item.bytes_before = costs_of(part)
    if item.replay is not None:
        call, memory = item.replay
        addresses = [copy.data_ptr() for copy in memory]
        comparison = compare(eager_call(part, values), partial(call, *addresses), budget_seconds=0.1)
        item.ways = two_ways(comparison, True)
        item.replay = None
    try:
        item.eager_errors = eager_errors(part, values)
    except Exception as error:
        # Some ops have no float64 form, or a constant of another dtype among their arguments.
        item.notes.append(_failure("repeating the ATen ops in float64", error))


def _failure(what: str, error: Exception) -> str:
    _log.debug("%s failed", what, exc_info=True)
    return f"{what} raised {type(error).__name__}: {' '.join(str(error).split())[:120]}"


def _record(
    name: str,
    item: _Found,
    program: Program,
    choice: RegionChoice | None,
    position: Mapping[str, int],
    graph: str,
) -> RegionProof:
    ways = item.ways
    if choice is not None:
        ways = (*two_ways(choice.comparison, True), *choice.others)
        if not choice.kept:
            ways = (ways[0], replace(ways[1], reason="kept: without it a loop would be lost"), *ways[2:])
    calls = tuple(_positions(call, position) for call in item.calls)
    return RegionProof(
        kernel=name,
        kind=kind_of(program.kernels[name]).name,
        graph=graph,
        calls=len(item.calls),
        ops=calls,
        alternatives=ways,
        kept=True,
        errors=item.errors,
        eager_errors=item.eager_errors,
        unproven="; ".join([item.unproven, *item.notes]).strip("; "),
        flops=item.flops,
        bytes_before=item.bytes_before,
        bytes_after=item.bytes_after,
    )


def _refused(choice: RegionChoice, nodes: Nodes, position: Mapping[str, int], graph: str) -> RegionProof:
    products = not choice.kernel.startswith("region_")
    work, moved = costs_of(part_of(nodes, choice.nodes, products))
    return RegionProof(
        kernel=choice.kernel,
        kind=choice.kernel.partition("_")[0],
        graph=graph,
        calls=0,
        ops=(_positions(choice.nodes, position),) * choice.calls,
        alternatives=_refused_ways(choice),
        kept=False,
        unproven="the library's ops are kept",
        flops=work,
        bytes_before=moved,
    )


def _refused_ways(choice: RegionChoice) -> tuple[Alternative, ...]:
    eager, kernel = two_ways(choice.comparison, False)
    better = next((other for other in choice.others if other.kept), None)
    if better is not None:
        reason = f"{better.name} is faster"
        eager, kernel = replace(eager, kept=False, reason=reason), replace(kernel, reason=reason)
    return (eager, kernel, *choice.others)


def _positions(names: Sequence[str], position: Mapping[str, int]) -> tuple[int, ...]:
    return tuple(sorted({position[name] for name in names if name in position}))
