"""What the torch.compile backend decided for each graph, kept where a person or a script can read it."""

from __future__ import annotations

import logging
from collections import Counter, deque
from dataclasses import dataclass

import torch

from optimizers.fusion.timing import Comparison

_MOST = 1000
_log = logging.getLogger("hotbench")


@dataclass(frozen=True, slots=True)
class Decision:
    """What became of one graph for one set of sizes.

    kind:   why it runs eagerly, in a few words without figures; "" where it is compiled. detail: the rest of it.
    failed: the reason is a failure of ours, not a property of the graph.
    """

    graph: str
    training: bool
    kind: str = ""
    detail: str = ""
    failed: bool = False
    kernel_calls: int = 0
    library_calls: int = 0
    comparison: Comparison | None = None

    def __str__(self) -> str:
        which = f"{self.graph}{' with gradients' if self.training else ''}"
        if self.kind:
            return f"{which} runs eagerly: {self.kind}{self.detail and f': {self.detail}'}"
        if self.comparison is None:
            return f"{which} compiled without measuring"
        what = f"{self.kernel_calls} kernel calls, {self.library_calls} library calls"
        return f"{which} compiled: {what}; {figures(self.comparison)}"


class Decisions:
    """The latest 1000 decisions in order, and how many graphs run eagerly for which reason."""

    def __init__(self) -> None:
        self.reasons: Counter[str] = Counter()
        self.latest: deque[Decision] = deque(maxlen=_MOST)

    def add(self, decision: Decision) -> None:
        """Keep, count and log one decision: one line, a warning where something of ours failed."""
        self.latest.append(decision)
        if decision.kind:
            self.reasons[decision.kind] += 1
        _log.log(logging.WARNING if decision.failed else logging.INFO, "torch.compile: %s", decision)


def figures(comparison: Comparison) -> str:
    """Return what was measured, in the form that refusals use."""
    c = comparison
    interval = f"{c.ratio:.2f}x, 95 % interval {c.low:.2f} to {c.high:.2f}"
    return f"compiled {c.second_seconds * 1e3:.3g} ms, eager {c.first_seconds * 1e3:.3g} ms ({interval})"


def title_of(graph: torch.fx.GraphModule) -> str:
    """Return how a graph is called in a line for people."""
    return f"graph of {sum(node.op.startswith('call_') for node in graph.graph.nodes)} ops"


def line_of(error: BaseException) -> str:
    """Return an error as one line."""
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0][:160]}"
