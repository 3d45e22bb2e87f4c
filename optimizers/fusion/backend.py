"""`torch.compile(model, backend="hotbench")`: inference and training; eager wherever that is faster or safer."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch

from analyzer.errors import HotbenchError
from optimizers.fusion.backend_choice import Replay, Watch
from optimizers.fusion.backend_decision import Decision, Decisions, title_of
from optimizers.fusion.backend_eager import eager_call, graphs_of
from optimizers.fusion.backend_sizes import BackendOptions, ManySizes, OneSize, symbolic_positions

NAME = "hotbench"


class HotbenchBackend:
    """The backend that torch.compile calls with each graph that it captures.

    A graph is kept compiled where its outputs and gradients agree with eager's and it is measured faster on the
    inputs of its first call; everything else runs eagerly, and `reasons` counts why. `graphs` are those in use.
    """

    __name__ = NAME

    def __init__(self, replay: Replay | None = None, watch: Watch | None = None) -> None:
        """Begin without decisions; replay: those to be repeated instead of measuring; watch: told of each program."""
        self._decisions = Decisions()
        self._replay = replay
        self._watch = watch
        self.graphs: weakref.WeakSet[OneSize] = weakref.WeakSet()

    def __deepcopy__(self, _: dict[int, Any]) -> HotbenchBackend:
        """Return itself: a compiled model that is copied compiles anew, through the same backend."""
        return self

    def __copy__(self) -> HotbenchBackend:
        """Return itself."""
        return self

    def __reduce__(self) -> str | tuple[Any, ...]:
        """Return how to find the backend again, in another process without what was decided in this one."""
        return "backend" if self is backend else (HotbenchBackend, (self._replay,))

    @property
    def reasons(self) -> Counter[str]:
        """Return how many graphs run eagerly, by reason."""
        return self._decisions.reasons

    @property
    def decisions(self) -> tuple[Decision, ...]:
        """Return what was decided for the latest 1000 graphs, in order."""
        return tuple(self._decisions.latest)

    def forget(self) -> None:
        """Begin to count anew."""
        self._decisions.reasons.clear()
        self._decisions.latest.clear()

    def __call__(
        self,
        graph: torch.fx.GraphModule,
        inputs: Sequence[Any],
        *,
        options: Mapping[str, Any] | None = None,
        mode: str | None = None,
    ) -> Callable[..., Any]:
        """Return what runs in the place of `graph`. Raises HotbenchError for options that there are not."""
        chosen = options_of(options, mode)
        reason = left_to_eager(graph, inputs)
        if reason:
            self._decisions.add(Decision(title_of(graph), torch.is_grad_enabled(), reason))
            return eager_call(graph)
        moving = symbolic_positions(inputs)
        make = partial(
            OneSize, graph, decisions=self._decisions, options=chosen, replay=self._replay, watch=self._watch
        )

        def specialise(real: Sequence[Any], late: bool) -> OneSize:
            one = make(inputs=real, late=late)
            self.graphs.add(one)
            return one

        run: Callable[..., Any] = (
            ManySizes(graph, moving, chosen, self._decisions, specialise) if moving else specialise(inputs, False)
        )
        disable: Callable[..., Any] = torch._dynamo.disable
        disabled: Callable[..., Any] = disable(run, reason="hotbench runs this graph")
        return disabled


def options_of(options: Mapping[str, Any] | None, mode: str | None) -> BackendOptions:
    """Return the options. Raises HotbenchError for a name or value that there is not."""
    unknown = sorted(set(options or {}) - set(BackendOptions.__dataclass_fields__))
    if unknown:
        known = ", ".join(BackendOptions.__dataclass_fields__)
        raise HotbenchError(f"options: {unknown[0]!r} is unknown to the hotbench backend; it knows {known}")
    if mode not in (None, "default"):
        raise HotbenchError(f"mode={mode!r} is unknown to the hotbench backend; leave it out")
    return BackendOptions(**(options or {}))


def left_to_eager(graph: torch.fx.GraphModule, inputs: Sequence[Any]) -> str:
    """Return in words why a graph is not compiled at all, "" where it is."""
    nodes = [node for part in graphs_of(graph) for node in part.graph.nodes]
    if torch._C._is_any_autocast_enabled() or any("autocast" in str(node.target) for node in nodes):
        return "autocast is on, and kernels compute in the tensors' own dtypes"
    for value in inputs:
        if not isinstance(value, torch.Tensor):
            continue
        if value.device.type != "cpu":
            return f"tensors are on {value.device.type}, and this version compiles for the CPU only"
        if value.layout != torch.strided:
            return f"an input has layout {value.layout}"
    if not any(node.op.startswith("call_") for node in nodes):
        return "the graph computes nothing"
    return ""


backend = HotbenchBackend()
"""What torch.compile finds under the name "hotbench"; the entry point `torch_dynamo_backends` names it too."""


def register() -> None:
    """Let torch.compile find the backend by its name, without the entry point of an installed package."""
    from torch._dynamo.backends import registry

    if NAME not in registry._COMPILER_FNS:
        registry.register_backend(backend, name=NAME)
