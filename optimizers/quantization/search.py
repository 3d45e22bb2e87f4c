"""The search for a form of each layer: start from what the gate allows, measure the whole, back off until it passes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from analyzer.progress import Progress, part
from optimizers.quantization.allocate import Choice, allocate, backed_off
from optimizers.quantization.forms import FLOAT, Form
from optimizers.quantization.limits import Limits
from optimizers.quantization.sensitivity import Answers, Bench, LayerSensitivity, choices, cost_of, measure_layers

MOST_BUDGETS = 5
"""So many budgets of loss are tried before layers are made safer one after the other."""
_SPARE = 0.9
_LEAST_CUT, _MOST_CUT = 0.7, 0.05
_GROWTH = 1.6
MOST_GROWTHS = 2


@dataclass(frozen=True, slots=True)
class Point:
    """One mix of forms, measured as a whole. bytes: of all weights as stored; speedup: over the model as it is.

    reason: what does not pass the gate, in words; "" if all passes.
    """

    name: str
    forms: Mapping[str, str]
    bytes: int
    answers: Answers
    speedup: float
    reason: str = ""

    @property
    def passed(self) -> bool:
        """Return whether the gate lets it through."""
        return not self.reason


@dataclass(frozen=True, slots=True)
class Found:
    """The end of a search: every mix that was measured, and the one that is best (None where none passes)."""

    layers: tuple[LayerSensitivity, ...]
    points: tuple[Point, ...]
    best: Point | None

    def chosen(self) -> dict[str, Form]:
        """Return the form of each layer in the best mix."""
        assert self.best is not None
        return {item.layer.name: item.form(self.best.forms[item.layer.name]).form for item in self.layers}


def search(bench: Bench, limits: Limits, goal: str, max_slowdown: float, progress: Progress) -> Found:
    """Return the mix that costs least and passes `limits`, every layer measured alone first.

    goal: "size", "speed" or "both", which seeks for speed again where its mix is slower than max_slowdown allows.
    """
    measured = measure_layers(bench, part(progress, 0.0, 0.6))
    if not measured:
        return Found((), (), None)
    hunt = _Hunt(bench, measured, limits, part(progress, 0.6, 1.0))
    hunt.uniform()
    best = hunt.best(goal)
    if best is not None and best.speedup < 1.0 / (1.0 + max_slowdown) and goal == "both":
        quicker = hunt.best("speed")
        best = quicker if quicker is not None and _is_worth(quicker, best) else best
    return Found(measured, tuple(hunt.points), best)


class _Hunt:
    """What was measured of one search so far; each mix once."""

    def __init__(self, bench: Bench, measured: Sequence[LayerSensitivity], limits: Limits, progress: Progress) -> None:
        self._bench, self._measured, self._limits, self._progress = bench, measured, limits, progress
        self.points: list[Point] = []

    def uniform(self) -> None:
        """Measure, for each form, the mix in which every layer that can has it: the corners of the front."""
        names = list(dict.fromkeys(form.form.name for item in self._measured for form in item.forms))
        for name in names:
            mix = {item.layer.name: _nearest(item, name) for item in self._measured}
            if any(form != FLOAT.name for form in mix.values()):
                self.point(f"every layer {name}", mix)

    def best(self, goal: str) -> Point | None:
        """Return the mix that costs least of those that pass; None where none does."""
        cost = cost_of(self._measured, goal)
        self._seek(choices(self._measured, cost))
        forms = {item.layer.name: item for item in self._measured}

        def total(point: Point) -> float:
            return sum(cost(forms[layer], forms[layer].form(name)) for layer, name in point.forms.items())

        passing = [point for point in self.points if point.passed]
        return min(passing, key=total, default=None)

    def _seek(self, options: Mapping[str, Sequence[Choice]]) -> None:
        allowed = self._limits.allowed_loss
        budget, passed, last = allowed, False, None
        for _ in range(MOST_BUDGETS):
            mix = allocate(options, budget)
            if mix is None:
                break
            last = mix
            point = self.point(f"losses within {budget:.2g}", _names(mix))
            if point.passed:
                passed = True
                break
            budget *= min(_LEAST_CUT, max(_MOST_CUT, _SPARE / max(self._limits.excess(point.answers), 1e-9)))
        if passed:
            self._grow(options, budget)
        elif last is not None:
            self._back_off(options, last)

    def _grow(self, options: Mapping[str, Sequence[Choice]], budget: float) -> None:
        """Try larger budgets: losses of layers may make up for each other."""
        for _ in range(MOST_GROWTHS):
            budget *= _GROWTH
            mix = allocate(options, budget)
            if mix is None or not self.point(f"losses within {budget:.2g}", _names(mix)).passed:
                return

    def _back_off(self, options: Mapping[str, Sequence[Choice]], mix: Mapping[str, Choice]) -> None:
        """Make layers safer, in steps of one, two, four… layers, until the whole passes or no layer can be safer."""
        count, total = 1, 0
        while True:
            mix, steps = _safer(options, mix, count)
            if steps == 0:
                return
            total += steps
            if self.point(f"{total} {'step' if total == 1 else 'steps'} safer", _names(mix)).passed:
                return
            count *= 2

    def point(self, name: str, mix: Mapping[str, str]) -> Point:
        """Return the mix measured as a whole; from memory where it was measured before."""
        known = next((point for point in self.points if point.forms == mix), None)
        if known is not None:
            return known
        self._progress(f"measuring the whole: {name}", min(len(self.points) / 16, 1.0))
        forms = {item.layer.name: item.form(mix[item.layer.name]) for item in self._measured}
        answers, speedup = self._bench.whole({layer: form.form for layer, form in forms.items()})
        size = sum(form.bytes for form in forms.values())
        made = Point(name, dict(mix), size, answers, speedup, self._limits.reason(answers))
        self.points.append(made)
        return made


def _is_worth(quicker: Point, best: Point) -> bool:
    """Return whether a mix is quicker and still compresses something."""
    return quicker.speedup > best.speedup and any(name != FLOAT.name for name in quicker.forms.values())


def _safer(
    options: Mapping[str, Sequence[Choice]], mix: Mapping[str, Choice], count: int
) -> tuple[Mapping[str, Choice], int]:
    """Return the mix up to `count` steps safer, and how many steps there were."""
    for step in range(count):
        further = backed_off(options, mix)
        if further is None:
            return mix, step
        mix = further
    return mix, count


def _names(mix: Mapping[str, Choice]) -> dict[str, str]:
    return {layer: choice.name for layer, choice in mix.items()}


def _nearest(item: LayerSensitivity, name: str) -> str:
    """Return the form of that name, where the layer can take it; else the safest it can take."""
    able = [form.form.name for form in item.forms if not form.refusal]
    return name if name in able else able[0]
