"""The quantization optimizer: each layer in the smallest form that the gate lets through, measured one by one."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import ClassVar

from analyzer.diagnosis.finding import Diagnosis
from analyzer.errors import HotbenchError
from analyzer.identity import content_id
from analyzer.progress import Progress, silent
from analyzer.run import Run
from analyzer.workload import Workload
from optimizers.plan import Applied, Options, Plan, Refusal, Target
from optimizers.quantization.forms import FLOAT, Form
from optimizers.quantization.options import NAME, QuantizationOptions, unmatched
from optimizers.quantization.predict import layer_bytes, layer_estimate, speedup
from optimizers.quantization.run_layers import RunLayer, run_layers


class QuantizationOptimizer:
    """Stores weights in 8 bits or as codebooks of 1 to 4 bits, as far as the answers stay within a gate."""

    name: ClassVar[str] = NAME
    options: ClassVar[type[Options]] = QuantizationOptions

    def plan(self, run: Run, diagnosis: Diagnosis, options: Options) -> Plan | Refusal:
        """Return the layers that forms would be tried for, with predicted bytes and times, or why there are none."""
        assert isinstance(options, QuantizationOptions)
        if run.training:
            return Refusal(
                NAME, "the step trains: weights are compressed for inference; profile the model without a loss"
            )
        if run.device.kind != "cpu":
            return Refusal(NAME, f"this version compresses for the CPU; the run was captured on {run.device.kind}")
        layers = run_layers(run)
        wrong = _unknown(layers, options)
        if wrong:
            known = _shortened(", ".join(layer.name for layer in layers))
            return Refusal(NAME, f"no layer of the run is called {wrong!r}; its layers are: {known}")
        taken = [layer for layer in layers if options.forms(layer.name, layer.kind) != (FLOAT,) and not layer.refusal]
        if not taken:
            return Refusal(NAME, _nothing(layers))
        targets = tuple(_target(run, layer, options) for layer in layers)
        estimate = speedup(run, taken, partial(_safest, options), partial(_smallest, options))
        chosen = options.as_plan_options()
        identity = content_id("plan", [run.id, NAME, chosen])
        return Plan(identity, run.id, NAME, chosen, targets, estimate, _summary(taken, options))

    def apply(self, workload: Workload, plan: Plan, progress: Progress = silent) -> tuple[Workload, Applied] | Refusal:
        """Return the workload with a compressed model, and what was decided; a Refusal where none passes the gate."""
        # Here, as it loads torch's recurrent and quantized modules, which a plan does without.
        from optimizers.quantization.carry_out import carry_out

        if workload.step is not None:
            return Refusal(
                NAME, "the workload runs its own step, of which the answers cannot be compared layer by layer"
            )
        if workload.training:
            return Refusal(
                NAME, "the step trains: weights are compressed for inference; give a workload without a loss"
            )
        try:
            return carry_out(workload, plan, QuantizationOptions(**plan.options), progress)
        except HotbenchError as error:
            return Refusal(NAME, str(error))

    def rebuild(self, workload: Workload, applied: Applied) -> Workload:
        """Put the same compressed weights into a fresh model. Raises RecordError where they do not fit or differ."""
        from optimizers.quantization.carry_out import restore

        return restore(workload, applied)


def _unknown(layers: Sequence[RunLayer], options: QuantizationOptions) -> str:
    """Return a pattern of the options that names no layer; "" if there is none."""
    names = tuple(layer.name for layer in layers)
    # The layers inside of one that the step computed by an op of its own are known to the model alone.
    inside = tuple(f"{layer.name}." for layer in layers if layer.refusal)
    wrong = (*unmatched(options.layers, names), *unmatched(options.include, names)) if names else ()
    return next((pattern for pattern in wrong if not pattern.startswith(inside)), "")


def _tried(options: QuantizationOptions, layer: RunLayer) -> tuple[Form, ...]:
    """Return the forms other than float that are tried for a layer, the safest first; float where there are none."""
    return tuple(form for form in options.forms(layer.name, layer.kind) if form != FLOAT) or (FLOAT,)


def _safest(options: QuantizationOptions, layer: RunLayer) -> Form:
    """Return the form that is tried first."""
    return _tried(options, layer)[0]


def _smallest(options: QuantizationOptions, layer: RunLayer) -> Form:
    """Return the form of those tried that is predicted to take the fewest bytes."""
    return min(_tried(options, layer), key=lambda form: sum(form.predicted_bytes(*shape) for shape in layer.shapes))


def _target(run: Run, layer: RunLayer, options: QuantizationOptions) -> Target:
    forms, last = _tried(options, layer), _smallest(options, layer)
    if layer.refusal:
        return Target(f"{layer.name or 'the model'}: {_size(layer.bytes)}", layer.ops, None, layer.refusal)
    if forms == (FLOAT,):
        why = "its bits are given as 32" if options.takes(layer.name) else "it is not among the layers to compress"
        return Target(f"{layer.name}: {_size(layer.bytes)}", layer.ops, None, why)
    if layer.tied:
        return Target(f"{layer.name}: the weights of {layer.tied}, in its form", layer.ops)
    after = [_size(layer_bytes(layer, form)) for form in (forms[0], last)]
    names = forms[0].name if len(forms) == 1 else f"{forms[0].name} to {last.name}"
    sizes = after[0] if len(forms) == 1 else f"{after[0]} to {after[1]}"
    title = f"{layer.name} ({layer.kind}): {_size(layer.bytes)} become {sizes}, {names}"
    return Target(title, layer.ops, layer_estimate(run, layer, forms[0]))


def _summary(taken: Sequence[RunLayer], options: QuantizationOptions) -> str:
    before = sum(layer.bytes for layer in taken)
    after = sorted(
        sum(layer_bytes(layer, form(layer)) for layer in taken)
        for form in (partial(_safest, options), partial(_smallest, options))
    )
    sizes = _size(after[0]) if after[0] == after[1] else f"between {_size(after[0])} and {_size(after[1])}"
    count = f"{len(taken):,} layer{'s' if len(taken) != 1 else ''}"
    return f"the weights of {count}, {_size(before)}, become {sizes}, as far as the gate lets them"


def _nothing(layers: Sequence[RunLayer]) -> str:
    if not layers:
        return "the step reads no weights of two axes or more, which could be compressed"
    refused = next((layer for layer in layers if layer.refusal), None)
    if refused is None:
        return "no layer is left to compress; widen include, exclude less or give fewer bits"
    return f"no layer can be compressed; {refused.name or 'the model'}: {refused.refusal}"


def _size(count: float) -> str:
    if count < 2**10:
        return f"{count:,.0f} bytes"
    return f"{count / 2**20:,.2f} MiB" if count >= 2**20 else f"{count / 2**10:,.1f} KiB"


def _shortened(names: str, most: int = 200) -> str:
    return names if len(names) <= most else f"{names[:most].rsplit(', ', 1)[0]}, …"
