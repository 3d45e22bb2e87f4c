"""Which shapes are static: the crossing tensors of several runs of one workload, compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from optimizers.placement.analysis import Traffic
from optimizers.placement.crossing import Crossing


def compare_shapes(traffic: Traffic, others: Mapping[str, Traffic]) -> Traffic:
    """Return the traffic with each tensor marked dynamic whose shape another run of the workload has otherwise.

    others: traffic by a name of the run, such as its seed. A tensor that another run does not have is dynamic too.
    """

    def marked(items: Sequence[Crossing], kind: str) -> tuple[Crossing, ...]:
        return tuple(replace(item, dynamic=_difference(item, place, kind, others)) for place, item in enumerate(items))

    cuts = tuple(replace(cut, crossing=marked(cut.crossing, f"cut {place}")) for place, cut in enumerate(traffic.cuts))
    return replace(
        traffic,
        gradients=marked(traffic.gradients, "gradients"),
        parameters=marked(traffic.parameters, "parameters"),
        cuts=cuts,
        runs=1 + len(others),
    )


def _difference(item: Crossing, place: int, kind: str, others: Mapping[str, Traffic]) -> str:
    for name, other in others.items():
        items = _items(other, kind)
        found = items[place] if place < len(items) else None
        if found is None or found.scope != item.scope:
            return f"run {name} has no such tensor"
        if found.shape != item.shape or found.dtype != item.dtype:
            return f"{_shown(item.shape)} here, {_shown(found.shape)} in run {name}"
    return ""


def _items(traffic: Traffic, kind: str) -> Sequence[Crossing]:
    if kind.startswith("cut "):
        place = int(kind.removeprefix("cut "))
        return traffic.cuts[place].crossing if place < len(traffic.cuts) else ()
    return traffic.gradients if kind == "gradients" else traffic.parameters


def _shown(shape: Sequence[int]) -> str:
    return "x".join(str(size) for size in shape) or "scalar"
