"""What fusion would take of a captured run, predicted from the measured times of its ops."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from analyzer.graph import Graph, Op
from analyzer.measurement import Estimate
from analyzer.run import Run
from optimizers.fusion.compile_cost import Size, kernel_estimate, predict_apply, read_history
from optimizers.fusion.plan_ops import (
    ATTENTION,
    LOOKUPS,
    PRODUCTS,
    base,
    is_fusable,
    is_view_of,
    unsupported_dtypes,
    why_library,
)
from optimizers.plan import Target

KERNEL_CALL_SECONDS = 1.5e-6
"""One call of a compiled kernel from Python, with its addresses bound before."""
ASSUMED_BYTES_PER_SECOND = 8e9
"""Where the run's device has no measured bandwidth."""
ASSUMED_FLOPS_PER_SECOND = 5e10
"""Where the run's device has no measured peak."""
_HOISTED = 0.6
_LOOP_PEAK = 0.5
"""The share of the device's peak that products inside a loop's kernel reach."""
_LOOP_VALUE_SECONDS = 5e-10
"""One elementwise result inside a loop's kernel, exponentials and the like counted in."""
_VALUE_SECONDS, _FUNCTION_SECONDS = 1e-10, 5e-10
"""One result of an arithmetic op in a kernel, and one of an exponential or the like."""
_FUNCTIONS = frozenset(
    """exp expm1 log log1p log2 sigmoid tanh erf sin cos gelu silu elu pow atan2 softmax log_softmax _softmax
    _log_softmax gelu_backward silu_backward""".split()
)
_LOOP_LOW, _LOOP_HIGH = 2.5, 0.4
"""How far a loop's kernel may be from its model."""
_LONGEST_PERIOD = 400
_LOW, _HIGH = 0.6, 1.1
"""How far the saving may be from the model's: other libraries' ops take over caches, dispatch gets shorter."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """Fusable ops of the program that follow each other with nothing but views between them."""

    ops: tuple[Op, ...]

    @property
    def signature(self) -> tuple[str, ...]:
        """Return the names of the ops: equal stretches become one target."""
        return tuple(op.name for op in self.ops)


def stretches(graph: Graph) -> list[Stretch]:
    """Return every stretch of fusable ops in the order of the program, those of forward and of backward apart."""
    found: list[Stretch] = []
    current: list[Op] = []
    for op in graph.top_level():
        if is_view_of(op.name) and op.phase != "optimizer":
            continue
        takes = not refusal_of(graph, op)
        if current and (not takes or op.phase != current[-1].phase):
            found.append(Stretch(tuple(current)))
            current = []
        if takes:
            current.append(op)
    return [*found, Stretch(tuple(current))] if current else found


def refusal_of(graph: Graph, op: Op) -> str:
    """Return why an op is left to the library, "" where a generated kernel computes it."""
    reason = why_library(op.name, op.phase)
    if reason:
        return reason
    odd = unsupported_dtypes(graph.tensors[k].dtype for k in (*op.inputs, *op.outputs))
    return f"its tensors are {', '.join(odd)}, in which no kernel computes" if odd else ""


def find_targets(run: Run) -> tuple[tuple[Target, ...], Estimate]:
    """Return the targets, the one that saves most first, and the predicted speedup of the step."""
    graph = run.graph
    gap, scale = _python_seconds(run), _profiler_scale(run)
    compiling = kernel_estimate(read_history())
    grouped: dict[tuple[str, ...], list[Stretch]] = {}
    for stretch in stretches(graph):
        grouped.setdefault(stretch.signature, []).append(stretch)
    targets = []
    for signature, alike in grouped.items():
        saved = sum(_saved_seconds(run, stretch, gap, scale) for stretch in alike)
        ops = tuple(op.index for stretch in alike for op in stretch.ops)
        if saved <= 0.0:
            targets.append(
                Target(_title(signature, len(alike)), ops, None, "one kernel would take as long as these ops")
            )
            continue
        estimate = Estimate(_LOW * saved, saved, _HIGH * saved, "s", _BASIS)
        targets.append(Target(_title(signature, len(alike)), ops, estimate, compile_seconds=compiling))
    targets.sort(key=lambda target: -(target.estimate.mid if target.estimate else 0.0))
    return tuple(targets), _speedup(run, targets)


_BASIS = (
    "measured times of the ops, and the Python between them, less one kernel call "
    f"({KERNEL_CALL_SECONDS * 1e6:.1f} us) a stretch and, whichever is more, its inputs and outputs "
    f"moved once at memory bandwidth or its values computed at {_VALUE_SECONDS * 1e9} ns, of functions such as tanh "
    f"at {_FUNCTION_SECONDS * 1e9} ns"
)


def _speedup(run: Run, targets: Sequence[Target]) -> Estimate:
    """Return the predicted speedup of the step.

    low:  only the targets get faster, by the cautious share of what they save.
    mid:  the step becomes the library's kernels and the generated ones, each at the cost of one call from a
          straight-line program: views, composite ops and the Python between ops are gone.
    high: the library's calls get cheaper too, where products of all steps of a loop become one.
    Where most of the ops repeat, the loop that they were unrolled from can become one kernel: mid and high are its.
    """
    step = run.step_seconds.median
    saved = sum(target.estimate.mid for target in targets if target.estimate)
    low = step / max(step - min(_LOW * saved, 0.97 * step), 1e-12)
    after = _program_seconds(run, targets)
    least = 0.02 * step
    if _repeats(tuple(op.name for op in run.graph.top_level() if op.phase != "optimizer")):
        loop = min(after, _loop_seconds(run) + _outside_seconds(run))
        low = max(low, step / max(min(after, _LOOP_LOW * loop), least))
        mid = max(low, step / max(loop, least))
        return Estimate(low, mid, max(mid, step / max(_LOOP_HIGH * loop, least)), "x", _LOOP_BASIS)
    mid = max(low, step / max(after, least))
    return Estimate(low, mid, max(mid, step / max(_HOISTED * after, least)), "x", _STEP_BASIS)


def _loop_seconds(run: Run) -> float:
    """Return the predicted seconds of the whole step as loops: products at a share of the peak, values one by one."""
    graph, peak = run.graph, run.device.flops_per_second
    rate = _LOOP_PEAK * (peak.value if peak is not None else ASSUMED_FLOPS_PER_SECOND)
    products = sum(_flops(graph, op) for op in graph.top_level() if base(op.name) in PRODUCTS)
    values = sum(_result_elements(graph, op) for op in graph.top_level() if is_fusable(op.name))
    return products / rate + values * _LOOP_VALUE_SECONDS + KERNEL_CALL_SECONDS


def _outside_seconds(run: Run) -> float:
    """Return the seconds of what no kernel takes: the optimizer's step, and ops of other kinds."""
    graph, scale = run.graph, _profiler_scale(run)
    gap = _python_seconds(run)
    left = [op for op in graph.top_level() if not (is_view_of(op.name) or base(op.name) in PRODUCTS)]
    left = [op for op in left if op.phase == "optimizer" or refusal_of(graph, op)]
    return sum(scale * _seconds(graph, op) + gap for op in left)


def _flops(graph: Graph, op: Op) -> float:
    return op.flops + sum(_flops(graph, graph.ops[child]) for child in graph.children[op.index])


def _result_elements(graph: Graph, op: Op) -> int:
    return max((math.prod(graph.tensors[k].shape) for k in op.outputs), default=0)


@lru_cache(maxsize=8)
def _repeats(names: tuple[str, ...]) -> bool:
    """Return whether nearly every op is what stands a fixed distance before it, three times or more."""
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    codes = np.array([numbers[name] for name in names], np.int32)
    for period in range(2, min(len(codes) // 3, _LONGEST_PERIOD) + 1):
        alike = np.count_nonzero(codes[:-period] == codes[period:])
        if alike >= 0.9 * (len(codes) - period) and len(set(names[:period])) > 1:
            return True
    return False


_STEP_BASIS = (
    "low: measured times of the ops less what the fused stretches save; mid: the measured times of the library's "
    f"kernels plus {KERNEL_CALL_SECONDS * 1e6:.1f} us a call and the generated kernels at memory bandwidth; "
    f"high: that times {_HOISTED}, for products that are taken out of loops"
)
_LOOP_BASIS = (
    "the ops repeat, so that a loop can become one kernel; low: measured times of the ops less what the fused "
    f"stretches save; mid: products at {_LOOP_PEAK:.0%} of the device's measured peak, every other value at "
    f"{_LOOP_VALUE_SECONDS * 1e9:.1f} ns, and what stays outside as measured; high: {_LOOP_HIGH} of that"
)


def _program_seconds(run: Run, targets: Sequence[Target]) -> float:
    """Return the predicted seconds of the generated program: library kernels, and one kernel a stretch."""
    graph, scale = run.graph, _profiler_scale(run)
    taken = {index for target in targets if not target.refusal for index in target.ops}
    total = 0.0
    for op in graph.top_level():
        if op.index not in taken and not is_view_of(op.name):
            total += scale * _executing_seconds(graph, op) + KERNEL_CALL_SECONDS
    for stretch in stretches(graph):
        if stretch.ops[0].index in taken:
            now = scale * sum(_seconds(graph, op) for op in stretch.ops)
            total += KERNEL_CALL_SECONDS + min(_kernel_seconds(run, stretch), now)
    return total


def _executing_seconds(graph: Graph, op: Op) -> float:
    """Return the self time of the op and of what it calls, of those alone that do work themselves."""
    own = op.self_seconds.median if op.executes and op.bytes_moved and op.self_seconds is not None else 0.0
    return own + sum(_executing_seconds(graph, graph.ops[child]) for child in graph.children[op.index])


def _profiler_scale(run: Run) -> float:
    """Return by how much self times are to be scaled: the profiler's overhead inflates them."""
    inside = sum(op.self_seconds.median for op in run.graph.ops if op.self_seconds is not None)
    return min(1.0, run.step_seconds.median / inside) if inside else 1.0


def _python_seconds(run: Run) -> float:
    """Return the seconds between two ops of the program that no op accounts for."""
    inside = sum(op.self_seconds.median for op in run.graph.ops if op.self_seconds is not None)
    count = sum(1 for _ in run.graph.top_level())
    return max(run.step_seconds.median - inside, 0.0) / count if count else 0.0


def _saved_seconds(run: Run, stretch: Stretch, gap: float, scale: float) -> float:
    now = sum(scale * _seconds(run.graph, op) + gap for op in stretch.ops)
    return now - KERNEL_CALL_SECONDS - _kernel_seconds(run, stretch)


def _kernel_seconds(run: Run, stretch: Stretch) -> float:
    """Return the predicted seconds of one kernel: its memory moved once, or its values computed, whichever is more."""
    graph = run.graph
    computed = sum(
        _result_elements(graph, op) * (_FUNCTION_SECONDS if base(op.name) in _FUNCTIONS else _VALUE_SECONDS)
        for op in stretch.ops
    )
    return max(_bytes_moved(graph, stretch) / _bandwidth(run), computed)


def _seconds(graph: Graph, op: Op) -> float:
    own = op.self_seconds.median if op.self_seconds is not None else 0.0
    return own + sum(_seconds(graph, graph.ops[child]) for child in graph.children[op.index])


def _bytes_moved(graph: Graph, stretch: Stretch) -> int:
    """Return the bytes of what enters the stretch and of what later ops read of it."""
    made = {tensor for op in stretch.ops for tensor in op.outputs}
    read = {tensor for op in stretch.ops for tensor in op.inputs[base(op.name) in LOOKUPS :]} - made
    inside = {op.index for op in stretch.ops}
    leaving = {tensor for tensor in made if any(op not in inside for op in graph.readers.get(tensor, ()))}
    return sum(graph.tensors[tensor].nbytes for tensor in read | leaving)


def _bandwidth(run: Run) -> float:
    peak = run.device.bytes_per_second
    return peak.value if peak is not None else ASSUMED_BYTES_PER_SECOND


def _title(signature: tuple[str, ...], times: int) -> str:
    names = [name.removeprefix("aten::") for name in signature]
    shown = ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
    return f"{shown}: {len(names)} op{'s' if len(names) > 1 else ''} as one kernel" + (
        f", {times} times" if times > 1 else ""
    )


def unsupported_targets(run: Run) -> tuple[Target, ...]:
    """Return a refused target for each kind of op that stays with the library, with the reason."""
    left: dict[tuple[str, str], list[int]] = {}
    for op in run.graph.top_level():
        if is_view_of(op.name) and op.phase != "optimizer":
            continue
        if reason := refusal_of(run.graph, op):
            left.setdefault((op.name, reason), []).append(op.index)
    return tuple(
        Target(f"{json.dumps(name)[1:-1]}, {len(ops)} time{'s' if len(ops) > 1 else ''}", tuple(ops), None, reason)
        for (name, reason), ops in left.items()
    )


def predicted_apply(run: Run, targets: Sequence[Target]) -> Estimate:
    """Return the expected seconds of applying the plan."""
    return predict_apply(size_of(run, targets), read_history())


def size_of(run: Run, targets: Sequence[Target]) -> Size:
    """Return what there is to build for these targets."""
    ops = [op for op in run.graph.top_level() if op.phase != "optimizer"]
    kernels = sum(1 for target in targets if not target.refusal)
    loops = int(_repeats(tuple(op.name for op in ops)))
    if not loops:
        # Generated products and attentions are built to be measured, whichever is kept.
        tried = [op for op in ops if base(op.name) in PRODUCTS | ATTENTION]
        kernels += len({(op.name, *(run.graph.tensors[k].shape for k in op.inputs)) for op in tried})
    return Size(len(ops), kernels, loops, run.training, run.step_seconds.median)
