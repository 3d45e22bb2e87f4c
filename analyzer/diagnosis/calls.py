"""What the program asked of the framework: each outermost ATen op with the time and work of all that it called."""

from __future__ import annotations

from dataclasses import dataclass

from analyzer.device import Device
from analyzer.graph import Op
from analyzer.run import Run

# Ops that give each output element from the elements at its place, or reduce along axes, and so can share a loop.
POINTWISE = frozenset(
    """abs add addcdiv addcmul bitwise_and bitwise_not bitwise_or bitwise_xor ceil clamp clamp_max clamp_min clone
    contiguous copy cos div dropout eq erf exp expm1 fill floor ge gelu gt hardswish hardtanh isinf isnan le leaky_relu
    lerp log log1p log2 logical_and logical_not logical_or lt masked_fill maximum minimum mish mul ne neg pow
    reciprocal relu round rsqrt rsub sigmoid sign silu sin sqrt sub tanh to trunc where zero
    gelu_backward sigmoid_backward silu_backward tanh_backward threshold_backward""".split()
)
REDUCING = frozenset(
    """amax amin batch_norm group_norm layer_norm linalg_vector_norm log_softmax logsumexp max mean min
    native_layer_norm norm prod softmax std sum var var_mean _softmax _log_softmax _softmax_backward_data
    _log_softmax_backward_data native_layer_norm_backward""".split()
)
VIEWS = frozenset(
    """alias as_strided chunk detach expand flatten narrow permute reshape select slice split squeeze t transpose
    unbind unflatten unsqueeze view view_as""".split()
)

LONGEST_BETWEEN_SECONDS = 5e-6


@dataclass(frozen=True, slots=True)
class Call:
    """One outermost ATen op.

    seconds:       self times of the op and of all that it called, summed (device time where there is a device).
    ideal_seconds: the time that its FLOPs or bytes, whichever takes longer, would take at the device's ceilings.
    """

    op: Op
    seconds: float
    flops: float
    bytes_moved: int
    ideal_seconds: float

    @property
    def kind(self) -> str:
        """Return "pointwise", "reducing", "view" or "other"."""
        name = base_name(self.op.name)
        if name in POINTWISE:
            return "pointwise"
        if name in REDUCING:
            return "reducing"
        return "view" if name in VIEWS else "other"

    @property
    def fusable(self) -> bool:
        """Return whether a generated loop can take the op in (views cost nothing there)."""
        return self.kind != "other"


def base_name(name: str) -> str:
    """Return an op's name without namespace and in-place underscore: "aten::add_" -> "add"."""
    bare = name.rpartition("::")[2]
    return bare[:-1] if bare.endswith("_") and not bare.endswith("__") else bare


def calls_of(run: Run) -> tuple[Call, ...]:
    """Return the run's calls in order of start."""
    graph = run.graph
    seconds = [0.0] * len(graph.ops)
    flops = [0.0] * len(graph.ops)
    moved = [0] * len(graph.ops)
    for op in graph.ops:
        top = graph.top_level_of[op.index]
        if top >= 0:
            seconds[top] += op.self_seconds.median if op.self_seconds is not None else 0.0
            flops[top] += op.flops
            moved[top] += op.bytes_moved
    return tuple(
        Call(
            op,
            seconds[op.index],
            flops[op.index],
            moved[op.index],
            ideal_seconds(run.device, flops[op.index], moved[op.index]),
        )
        for op in graph.top_level()
    )


def seconds_between_calls(run: Run, calls: tuple[Call, ...]) -> float:
    """Return the mean seconds between two calls that no op accounts for: the program's own Python.

    0.0 where the ops' times, which hold the recorder's overhead, add up to the unprofiled step or more. At most
    LONGEST_BETWEEN_SECONDS: beyond that the step waits for something else, such as data.
    """
    inside = sum(call.seconds for call in calls)
    mean = max(run.step_seconds.median - inside, 0.0) / len(calls) if calls else 0.0
    return min(mean, LONGEST_BETWEEN_SECONDS)


def ideal_seconds(device: Device, flops: float, bytes_moved: float) -> float:
    """Return the roofline time of some work on `device`; 0.0 where its ceilings were not measured.

    Source: Williams et al. 2009, doi:10.1145/1498765.1498785.
    """
    compute = flops / device.flops_per_second.value if device.flops_per_second else 0.0
    memory = bytes_moved / device.bytes_per_second.value if device.bytes_per_second else 0.0
    return max(compute, memory)
