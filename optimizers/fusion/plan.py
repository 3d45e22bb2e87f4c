"""What fusion would take of a captured run, predicted from the measured times of its ops."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from analyzer.graph import Graph, Op
from analyzer.measurement import Estimate
from analyzer.run import Run
from optimizers.plan import Target

POINTWISE = frozenset(
    f"aten::{name}"
    for name in (
        "add", "sub", "rsub", "mul", "div", "true_divide", "neg", "abs", "exp", "expm1", "log", "log1p", "log2",
        "sqrt", "rsqrt", "reciprocal", "sigmoid", "tanh", "erf", "sin", "cos", "floor", "ceil", "round", "trunc",
        "sign", "relu", "gelu", "silu", "leaky_relu", "elu", "hardtanh", "relu6", "clamp", "clamp_min", "clamp_max",
        "maximum", "minimum", "pow", "square", "remainder", "atan2", "eq", "ne", "lt", "le", "gt", "ge",
        "logical_and", "logical_or",
        "logical_not", "logical_xor", "bitwise_and", "bitwise_or", "bitwise_not", "bitwise_xor", "__and__", "__or__",
        "isnan", "isinf", "where", "masked_fill", "addcmul", "clone", "to", "_to_copy", "contiguous", "type_as",
        "zeros", "ones", "full", "zeros_like", "ones_like", "full_like", "new_zeros", "new_ones", "new_full", "arange",
        "cat", "stack", "concat", "copy_", "float",
    )
)  # fmt: skip
REDUCTIONS = frozenset(
    f"aten::{name}"
    for name in (
        "sum", "mean", "amax", "amin", "any", "all", "var", "var_mean", "std", "softmax", "log_softmax", "layer_norm",
        "batch_norm", "norm", "linalg_vector_norm", "rms_norm",
    )
)  # fmt: skip
VIEWS = frozenset(
    f"aten::{name}"
    for name in (
        "view", "reshape", "permute", "transpose", "t", "expand", "expand_as", "slice", "select", "chunk", "split",
        "unbind", "squeeze", "unsqueeze", "flatten", "narrow", "detach", "alias", "as_strided", "unflatten", "movedim",
        "swapaxes", "numpy_T", "split_with_sizes", "tensor_split", "view_as", "resolve_conj", "dropout", "result_type",
    )
)  # fmt: skip

KERNEL_CALL_SECONDS = 1.5e-6
"""One call of a compiled kernel from Python, with its addresses bound before."""
ASSUMED_BYTES_PER_SECOND = 8e9
"""Where the run's device has no measured bandwidth."""
_HOISTED = 0.6
_ROLLED = 0.2
"""What is left of the program's cost at best where steps that repeat become one kernel."""
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
    """Return every stretch of fusable ops in the order of the program."""
    found: list[Stretch] = []
    current: list[Op] = []
    for op in graph.top_level():
        if op.name in VIEWS:
            continue
        if op.name in POINTWISE | REDUCTIONS:
            current.append(op)
        elif current:
            found.append(Stretch(tuple(current)))
            current = []
    return [*found, Stretch(tuple(current))] if current else found


def find_targets(run: Run) -> tuple[tuple[Target, ...], Estimate]:
    """Return the targets, the one that saves most first, and the predicted speedup of the step."""
    graph = run.graph
    gap, scale = _python_seconds(run), _profiler_scale(run)
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
        targets.append(Target(_title(signature, len(alike)), ops, estimate))
    targets.sort(key=lambda target: -(target.estimate.mid if target.estimate else 0.0))
    return tuple(targets), _speedup(run, targets)


_BASIS = (
    "measured times of the ops, and the Python between them, less one kernel call "
    f"({KERNEL_CALL_SECONDS * 1e6:.1f} us) a stretch and its inputs and outputs moved once at memory bandwidth"
)


def _speedup(run: Run, targets: Sequence[Target]) -> Estimate:
    """Return the predicted speedup of the step.

    low:  only the targets get faster, by the cautious share of what they save.
    mid:  the step becomes the library's kernels and the generated ones, each at the cost of one call from a
          straight-line program: views, composite ops and the Python between ops are gone.
    high: the library's calls get cheaper too, where products of all steps of a loop become one, and more so where
          most of the ops repeat: the loop that they were unrolled from can become one kernel.
    """
    step = run.step_seconds.median
    saved = sum(target.estimate.mid for target in targets if target.estimate)
    low = step / max(step - min(_LOW * saved, 0.97 * step), 1e-12)
    after = _program_seconds(run, targets)
    mid = max(low, step / max(after, 0.02 * step))
    best = _ROLLED if _repeats([op.name for op in run.graph.top_level()]) else _HOISTED
    return Estimate(low, mid, max(mid, step / max(best * after, 0.02 * step)), "x", _STEP_BASIS)


def _repeats(names: Sequence[str]) -> bool:
    """Return whether nearly every op is what stands a fixed distance before it, three times or more."""
    for period in range(2, min(len(names) // 3, _LONGEST_PERIOD) + 1):
        alike = sum(first == second for first, second in zip(names, names[period:], strict=False))
        if alike >= 0.9 * (len(names) - period) and len(set(names[:period])) > 1:
            return True
    return False


_STEP_BASIS = (
    "low: measured times of the ops less what the fused stretches save; mid: the measured times of the library's "
    f"kernels plus {KERNEL_CALL_SECONDS * 1e6:.1f} us a call and the generated kernels at memory bandwidth; "
    f"high: that times {_HOISTED}, for products that are taken out of loops, or {_ROLLED} where the ops repeat and a "
    "loop can become one kernel"
)


def _program_seconds(run: Run, targets: Sequence[Target]) -> float:
    """Return the predicted seconds of the generated program: library kernels, and one kernel a stretch."""
    graph, scale = run.graph, _profiler_scale(run)
    taken = {index for target in targets if not target.refusal for index in target.ops}
    total = 0.0
    for op in graph.top_level():
        if op.index not in taken and op.name not in VIEWS:
            total += scale * _executing_seconds(graph, op) + KERNEL_CALL_SECONDS
    for stretch in stretches(graph):
        if stretch.ops[0].index in taken:
            moved = _bytes_moved(graph, stretch) / _bandwidth(run)
            total += KERNEL_CALL_SECONDS + min(moved, scale * sum(_seconds(graph, op) for op in stretch.ops))
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
    return now - KERNEL_CALL_SECONDS - _bytes_moved(run.graph, stretch) / _bandwidth(run)


def _seconds(graph: Graph, op: Op) -> float:
    own = op.self_seconds.median if op.self_seconds is not None else 0.0
    return own + sum(_seconds(graph, graph.ops[child]) for child in graph.children[op.index])


def _bytes_moved(graph: Graph, stretch: Stretch) -> int:
    """Return the bytes of what enters the stretch and of what later ops read of it."""
    made = {tensor for op in stretch.ops for tensor in op.outputs}
    read = {tensor for op in stretch.ops for tensor in op.inputs} - made
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
    """Return a refused target for each kind of op that stays with the library."""
    known = POINTWISE | REDUCTIONS | VIEWS
    names: dict[str, list[int]] = {}
    for op in run.graph.top_level():
        if op.name not in known:
            names.setdefault(op.name, []).append(op.index)
    return tuple(
        Target(f"{json.dumps(name)[1:-1]}, {len(ops)} times", tuple(ops), None, "stays with the library")
        for name, ops in names.items()
    )
