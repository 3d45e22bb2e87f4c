"""Where each op comes from: phase of the step, module, the user's line, and for a backward op its forward op."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from analyzer.capture.graphpass import GraphPass
from analyzer.capture.recording import OpEvent

ENGINE = "autograd::engine::evaluate_function"
OPTIMIZER = ("Optimizer.step#", "Optimizer.zero_grad#")


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an op comes from; the fields are those of analyzer.graph.Op."""

    phase: str
    scope: str
    source: str
    forward_op: int


def attribute(recorded: GraphPass) -> tuple[Origin, ...]:
    """Return the origin of each op of the graph pass."""
    ops = recorded.ops
    phases = _phases(ops)
    forward = _forward_ops(recorded, phases)
    scopes = _scopes(recorded)
    sources = _sources(recorded)
    origins: list[Origin] = []
    for index, phase in enumerate(phases):
        scope, source = scopes[index], sources[index]
        if phase == "backward" and forward[index] >= 0:
            ancestor = origins[forward[index]]
            scope, source = ancestor.scope, ancestor.source
        origins.append(Origin(phase, scope, source, forward[index]))
    return tuple(origins)


def _phases(ops: Sequence[OpEvent]) -> list[str]:
    """Return each op's phase: backward below the autograd engine, optimizer within an optimizer's time, else forward.

    What follows the last backward op outside the optimizer is "other"; so is what runs between .backward() and it.
    """
    optimizer = [(op.start, op.end) for op in ops if op.name.startswith(OPTIMIZER)]
    phases: list[str] = []
    for op in ops:
        if op.name.startswith(ENGINE) or (op.parent >= 0 and phases[op.parent] == "backward"):
            phases.append("backward")
        elif any(begin <= op.start <= end for begin, end in optimizer):
            phases.append("optimizer")
        else:
            phases.append("forward")
    last = max((index for index, phase in enumerate(phases) if phase == "backward"), default=len(phases))
    return ["other" if phase == "forward" and index > last else phase for index, phase in enumerate(phases)]


def _forward_ops(recorded: GraphPass, phases: Sequence[str]) -> list[int]:
    """Return for each backward op the forward op whose gradient it computes, by autograd's sequence number.

    Several ops share a number: it is that of the next node, so it is the last op to show it that made the node.
    """
    makers: dict[tuple[int, int], int] = {}
    anywhere: dict[int, int] = {}
    found = [-1] * len(recorded.ops)
    for index, node in enumerate(recorded.nodes):
        if node is None or node.sequence < 0:
            continue
        if not node.backward:
            if phases[index] != "optimizer":
                makers[node.thread, node.sequence] = anywhere[node.sequence] = index
            continue
        found[index] = makers.get((node.forward_thread, node.sequence), anywhere.get(node.sequence, -1))
        parent = recorded.ops[index].parent
        if parent >= 0 and recorded.ops[parent].name.startswith(ENGINE):
            # The engine's own work for the node (summing gradients of a broadcast) belongs to the same forward op.
            found[parent] = found[index]
    for index, op in enumerate(recorded.ops):
        if found[index] < 0 <= op.parent and phases[index] == "backward":
            found[index] = found[op.parent]
    return found


def _scopes(recorded: GraphPass) -> list[str]:
    """Return for each op the path of the innermost module of the model that was running on its thread."""
    calls: dict[int, list[tuple[int, int, str]]] = {}
    for call in recorded.recording.modules:
        if call.module in recorded.modules:
            calls.setdefault(call.thread, []).append((call.start, call.end, recorded.modules[call.module]))
    position = dict.fromkeys(calls, 0)
    running: dict[int, list[tuple[int, int, str]]] = {thread: [] for thread in calls}
    scopes = []
    for op in recorded.ops:
        stack, rows = running.get(op.thread, []), calls.get(op.thread, [])
        while rows and position[op.thread] < len(rows) and rows[position[op.thread]][0] <= op.start:
            row = rows[position[op.thread]]
            while stack and stack[-1][1] < row[1]:
                stack.pop()
            stack.append(row)
            position[op.thread] += 1
        while stack and stack[-1][1] < op.end:
            stack.pop()
        scopes.append(stack[-1][2] if stack else "")
    return scopes


def _sources(recorded: GraphPass) -> list[str]:
    """Return for each op the user's line that was running on its thread."""
    marks: dict[int, tuple[list[tuple[int, int]], list[str]]] = {}
    for mark in recorded.recording.lines:
        times, names = marks.setdefault(mark.thread, ([], []))
        times.append((mark.start, mark.correlation))
        names.append(mark.name)
    sources = []
    for op in recorded.ops:
        times, names = marks.get(op.thread, ([], []))
        place = bisect_right(times, (op.start, op.correlation))
        sources.append(recorded.lines.source(names[place - 1]) if place else "")
    return sources
