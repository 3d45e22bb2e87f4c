"""What a layer would take in another form, predicted from a captured run: a roofline with cited gains."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from analyzer.measurement import Estimate
from analyzer.run import Run
from optimizers.quantization.forms import FLOAT, LOW_RANK, PRUNE, Form
from optimizers.quantization.run_layers import RunLayer

ASSUMED_BYTES_PER_SECOND = 8e9
ASSUMED_FLOPS_PER_SECOND = 5e10
"""Where the run's device has no measured peak."""
CALL_SECONDS = 5e-6
"""One call of a compressed layer: activations quantized, and the op's dispatch."""
_VNNI, _BF16 = "avx512_vnni", "avx512_bf16"
_INT8_GAIN, _BF16_GAIN = 3.0, 2.0
"""Products in 8 and 16 bits over the float32 peak, where the CPU has instructions for them."""
_MOST_GAIN = {"linear": 8.0, "convolution": 2.0, "recurrent": 2.0}
"""A layer is not predicted to become quicker than this many times."""
_LOW, _HIGH = 0.5, 1.2
"""How far the saving may be from the model's."""
BASIS = (
    "measured times of the layers' ops against their compressed weights moved once at memory bandwidth or their "
    f"products at the device's peak ({_INT8_GAIN:g} times it in 8 bits with VNNI), whichever is more, plus "
    f"{CALL_SECONDS * 1e6:g} us a call; low: nothing passes the gate; mid: {{mid}}; high: {{high}}"
)


def layer_bytes(layer: RunLayer, form: Form) -> int:
    """Return the bytes of the layer's weights in a form; 0 where they are another layer's."""
    if layer.tied:
        return 0
    if form == FLOAT:
        return layer.bytes
    return sum(form.predicted_bytes(rows, columns) for rows, columns in layer.shapes)


def saved_seconds(run: Run, layer: RunLayer, form: Form) -> float:
    """Return by how many seconds a step would be shorter; negative where the form would be slower."""
    # Pruned weights are computed with as they were.
    if form == FLOAT or form.method == PRUNE or layer.kind == "embedding":
        return 0.0
    memory, peak = run.device.bytes_per_second, run.device.flops_per_second
    work, most = _share_of_work(form) * layer.flops, peak.value if peak is not None else ASSUMED_FLOPS_PER_SECOND
    moved = sum(form.predicted_bytes(rows, columns) for rows, columns in layer.shapes) * len(layer.ops)
    seconds = max(
        layer.seconds / _MOST_GAIN[layer.kind],
        moved / (memory.value if memory is not None else ASSUMED_BYTES_PER_SECOND),
        work / (_gain(run, form) * most),
    )
    return layer.seconds - seconds - CALL_SECONDS * len(layer.ops)


def layer_estimate(run: Run, layer: RunLayer, form: Form) -> Estimate:
    """Return the seconds that the layer would save in a form."""
    saved = saved_seconds(run, layer, form)
    ends = sorted((_LOW * saved, _HIGH * saved))
    return Estimate(ends[0], saved, ends[1], "s", BASIS.format(mid="this form as modelled", high="1.2 times that"))


def speedup(
    run: Run, layers: Sequence[RunLayer], safest: Callable[[RunLayer], Form], cheapest: Callable[[RunLayer], Form]
) -> Estimate:
    """Return the predicted speedup of the step. safest, cheapest: of a layer, of the forms that would be tried."""
    step = run.step_seconds.median

    def after(form_of: Callable[[RunLayer], Form]) -> float:
        saved = sum(saved_seconds(run, layer, form_of(layer)) for layer in layers)
        return step / max(step - saved, 0.02 * step)

    ends = sorted((after(safest), after(cheapest)))
    basis = BASIS.format(mid="the safest form everywhere", high="the smallest everywhere")
    return Estimate(min(1.0, ends[0]), ends[0], max(ends[1], ends[0]), "x", basis)


def _share_of_work(form: Form) -> float:
    """Return the share of a layer's products that are left: thin matrices multiply as often as they have weights."""
    return form.degree if form.method == LOW_RANK else 1.0


def _gain(run: Run, form: Form) -> float:
    features = run.environment.cpu_features
    if form.method == LOW_RANK:
        return 1.0
    if form.method == "bfloat16":
        return _BF16_GAIN if _BF16 in features else 1.0
    return _INT8_GAIN if _VNNI in features else 1.0
