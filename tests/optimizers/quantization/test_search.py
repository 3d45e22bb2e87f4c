"""The search on made-up layers: it passes the gate, is cheap, backs off, and says what it measured."""

import pytest

from analyzer.progress import silent
from optimizers.quantization.forms import FLOAT, Form
from optimizers.quantization.limits import MARGIN, Limits
from optimizers.quantization.search import search
from tests.optimizers.quantization.benches import FakeBench

GATE = Limits(None, 0.99, None)


def size(bench, point):
    return point.bytes / sum(layer.bytes for layer in bench.layers)


@pytest.mark.parametrize("seed", range(4))
def test_the_mix_passes_with_a_margin_and_is_smaller_than_any_uniform_one_that_passes(seed):
    bench = FakeBench(9, seed)
    found = search(bench, GATE, "size", 0.0, silent)
    assert found.best is not None and found.best.passed
    assert found.best.answers.cosine >= 1 - MARGIN * 0.01 - 1e-9
    passing = [point.bytes for point in found.points if point.passed]
    assert found.best.bytes == min(passing) and size(bench, found.best) < 0.26
    assert set(found.best.forms.values()) <= {"float", "int8", "kmeans-4", "kmeans-3"}


@pytest.mark.parametrize("coupling", [4.0, 30.0, 900.0])
def test_losses_that_add_up_to_more_than_expected_are_backed_off_from(coupling):
    bench = FakeBench(8, 3, coupling)
    found = search(bench, GATE, "both", 0.0, silent)
    assert found.best is not None and found.best.passed
    assert any(not point.passed for point in found.points)
    assert found.best.bytes == min(point.bytes for point in found.points if point.passed)


def test_every_layer_is_measured_once_in_every_form_and_no_mix_twice():
    bench = FakeBench(5, 1, coupling=20.0)
    found = search(bench, GATE, "both", 0.0, silent)
    assert sorted(bench.measured_forms) == sorted({*bench.measured_forms}) and len(bench.measured_forms) == 5 * 4
    assert len(bench.wholes) == len({tuple(sorted(mix.items())) for mix in bench.wholes}) == len(found.points)


def test_agreement_and_metrics_gate_too_and_the_reason_names_the_figure():
    found = search(FakeBench(6, 2), Limits(0.9999, None, 0.0001), "size", 0.0, silent)
    failing = [point for point in found.points if not point.passed]
    assert any("agreement" in point.reason and "top1 falls by" in point.reason for point in failing)
    assert found.best is not None and found.best.answers.agreement >= 0.9999


def test_pinned_layers_beyond_the_gate_leave_no_mix_but_the_figures():
    found = search(FakeBench(4, 0, forms=(Form("kmeans", 3),), coupling=5.0), GATE, "size", 0.0, silent)
    assert found.best is None and found.points and all("cosine" in point.reason for point in found.points)


def test_a_form_that_a_layer_cannot_take_is_never_chosen_for_it():
    bench = FakeBench(6, 4, refused=frozenset({("layer.2", "kmeans-4"), ("layer.2", "kmeans-3")}))
    found = search(bench, GATE, "size", 0.0, silent)
    assert found.best is not None
    assert all(point.forms["layer.2"] in ("float", "int8") for point in found.points)


def test_layers_that_would_be_slower_stay_unless_size_is_the_goal():
    bench = FakeBench(6, 5, slow=frozenset(("layer.0", "layer.1", "layer.2")))
    quick = search(bench, GATE, "both", 0.0, silent).best
    assert quick.speedup > 1.0 and {quick.forms[name] for name in bench.slow} == {FLOAT.name}
    small = search(bench, GATE, "size", 0.0, silent).best
    assert small.bytes < quick.bytes and FLOAT.name not in small.forms.values()


def test_goals_differ_where_forms_differ_in_time_and_bytes():
    forms = (FLOAT, Form("int8", 8), Form("kmeans", 4))
    small = search(FakeBench(6, 6, forms=forms), Limits(None, 0.9, None), "size", 0.0, silent).best
    quick = search(FakeBench(6, 6, forms=forms), Limits(None, 0.9, None), "speed", 0.0, silent).best
    assert set(small.forms.values()) == {"kmeans-4"} and set(quick.forms.values()) == {"int8"}


def test_without_layers_nothing_is_measured():
    found = search(FakeBench(0), GATE, "both", 0.0, silent)
    assert found.layers == () and found.points == () and found.best is None


def test_without_a_gate_every_layer_takes_its_smallest_form():
    found = search(FakeBench(3, 7, coupling=50.0), Limits(None, None, None), "size", 0.0, silent)
    assert found.best is not None and set(found.best.forms.values()) == {"kmeans-3"}
