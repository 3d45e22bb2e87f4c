"""A Dynamo graph through AOTAutograd: functional ATen graphs, each run by a GraphProgram."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from torch._dynamo.backends.common import aot_autograd
from torch._functorch import config as functorch_config
from torch._guards import TracingContext, tracing
from torch._subclasses.fake_tensor import FakeTensorMode

from optimizers.fusion.backend_choice import Chooser
from optimizers.fusion.backend_partition import mark_exact, partition
from optimizers.fusion.backend_program import GraphProgram
from optimizers.fusion.capture import decompositions
from optimizers.fusion.gradients import BACKWARD_OPS

# One kernel of the library each; decomposed they would be many ops, some of which no region can take.
_KEPT_BACKWARD = frozenset(
    (*BACKWARD_OPS, "nll_loss_forward", "nll_loss_backward", "nll_loss2d_forward", "nll_loss2d_backward",
     "embedding_dense_backward", "native_batch_norm_backward", "native_group_norm_backward",
     "_native_batch_norm_legit_functional", "max_pool2d_with_indices_backward", "binary_cross_entropy",
     "binary_cross_entropy_backward", "_unsafe_index_put")
)  # fmt: skip


@dataclass
class Compiled:
    """What became of one Dynamo graph.

    call:       takes the graph's flat inputs, returns its flat outputs.
    programs:   of the inference graph, or of forward and, once it has run, backward.
    written:    positions of the inputs that the graph writes in place; None where that is not known.
    parameters: addresses of the tensors that stay in place between calls, to be filled in before the first one.
    """

    call: Callable[..., Any] = field(default=lambda *_: ())
    programs: list[GraphProgram] = field(default_factory=list)
    written: tuple[int, ...] | None = None
    parameters: set[int] = field(default_factory=set)


def compile_graph(
    graph: torch.fx.GraphModule, inputs: Sequence[Any], choose: Chooser, report: Callable[[str, str], None]
) -> Compiled:
    """Return the graph compiled for inputs like these, fake or real. Raises what AOTAutograd raises.

    choose: how the program of each graph is found. report: called with kind and reason when building a program fails.
    """
    compiled = Compiled()

    def compiler(kind: str) -> Callable[..., Callable[[list[Any]], Any]]:
        def compile_one(module: torch.fx.GraphModule, _: Sequence[Any]) -> Callable[[list[Any]], Any]:
            if kind == "inference":
                mark_exact(module.graph)
            if kind != "backward":
                compiled.written = _written(len(inputs))
            program = GraphProgram(kind, module, choose, compiled.parameters, report)
            compiled.programs.append(program)
            return _boxed(program)

        return compile_one

    backend = aot_autograd(
        fw_compiler=compiler("forward"),
        bw_compiler=compiler("backward"),
        inference_compiler=compiler("inference"),
        partition_fn=partition,
        decompositions=training_decompositions(),
    )
    # Donated buffers would forbid backward(retain_graph=True), which eager allows.
    with _context(), functorch_config.patch(donated_buffer=False):
        compiled.call = backend(graph, list(inputs))
    return compiled


def _boxed(program: GraphProgram) -> Callable[[list[Any]], Any]:
    # A function, since wrappers carry a function's attributes along and not an object's.
    def run(args: list[Any]) -> Any:
        return program(args)

    run._boxed_call = True  # type: ignore[attr-defined]
    return run


@cache
def training_decompositions() -> dict[Any, Callable[..., Any]]:
    """Return the core decompositions, but for ops that are one kernel of the library or have a handler here."""
    return {
        op: rule
        for op, rule in decompositions().items()
        if op.name().split("::")[1].split(".")[0] not in _KEPT_BACKWARD
    }


@contextlib.contextmanager
def _context() -> Iterator[None]:
    """Give AOTAutograd a context of its own where Dynamo is not compiling: it then tells what the graph writes."""
    if TracingContext.try_get() is not None:
        yield
        return
    with tracing(TracingContext(FakeTensorMode())):
        yield


def _written(inputs: int) -> tuple[int, ...] | None:
    context = TracingContext.try_get()
    metadata = context.fw_metadata if context is not None else None
    if metadata is None or len(metadata.input_info) != inputs:
        return None
    return tuple(k for k, info in enumerate(metadata.input_info) if info.mutates_data or info.mutates_metadata)
