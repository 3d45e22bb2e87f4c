"""Allocation: within what may be lost, and as cheap as the best there is."""

import itertools
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimizers.quantization.allocate import STEPS, Choice, allocate, backed_off

LOSS = st.one_of(st.just(0.0), st.floats(1e-9, 1.0), st.just(math.inf))
LAYERS = st.lists(st.lists(st.tuples(st.floats(0.0, 1e6), LOSS), min_size=1, max_size=4), max_size=5)


def made(table):
    return {
        f"layer.{row}": tuple(Choice(f"form-{k}", cost, loss) for k, (cost, loss) in enumerate(options))
        for row, options in enumerate(table)
    }


def cheapest(layers, allowed):
    """Return the least cost by trying everything, each loss rounded up as the allocation does."""
    slack = 1 + 1e-12
    costs = [
        sum(choice.cost for choice in mix)
        for mix in itertools.product(*layers.values())
        if sum(choice.loss for choice in mix) <= allowed * slack
    ]
    return min(costs, default=None)


@given(table=LAYERS, allowed=st.floats(0.0, 2.0))
def test_losses_stay_within_what_is_allowed_and_every_layer_has_a_choice_of_its_own(table, allowed):
    layers = made(table)
    found = allocate(layers, allowed)
    if found is None:
        # Only rounding losses up may lose a mix that would just fit.
        tight = cheapest(layers, allowed * (1 - (len(layers) + 1) / STEPS))
        assert tight is None
        return
    assert list(found) == list(layers)
    assert all(found[name] in options for name, options in layers.items())
    assert sum(choice.loss for choice in found.values()) <= allowed * (1 + 1e-9)


@given(table=LAYERS, allowed=st.floats(0.01, 2.0))
def test_it_is_as_cheap_as_the_best_mix_of_a_slightly_smaller_allowance(table, allowed):
    layers = made(table)
    found, tight = allocate(layers, allowed), cheapest(layers, allowed * (1 - (len(layers) + 1) / STEPS))
    if tight is not None:
        assert found is not None
        assert sum(choice.cost for choice in found.values()) <= tight * (1 + 1e-9) + 1e-9


def test_without_a_gate_every_layer_takes_its_cheapest_finite_form():
    layers = made([[(5.0, 0.0), (1.0, 0.5), (0.1, math.inf)], [(2.0, 0.0), (3.0, 0.1)]])
    found = allocate(layers, math.inf)
    assert {name: choice.cost for name, choice in found.items()} == {"layer.0": 1.0, "layer.1": 2.0}


def test_a_pinned_layer_that_loses_too_much_leaves_no_mix_and_no_layer_needs_none():
    assert allocate(made([[(1.0, 0.2)]]), 0.1) is None
    assert allocate({}, 0.0) == {}
    assert allocate({"empty": ()}, 1.0) is None


@pytest.mark.parametrize("seed", range(5))
def test_backing_off_makes_one_layer_safer_each_time_until_all_are_safe(seed):
    draw = random.Random(seed)
    layers = made([[(draw.uniform(1, 9), draw.choice((0.0, draw.random()))) for _ in range(4)] for _ in range(6)])
    mix = {name: max(options, key=lambda choice: choice.loss) for name, options in layers.items()}
    steps = 0
    while (safer := backed_off(layers, mix)) is not None:
        changed = [name for name in mix if safer[name] != mix[name]]
        assert len(changed) == 1 and safer[changed[0]].loss < mix[changed[0]].loss
        mix, steps = safer, steps + 1
    assert steps > 0
    assert all(mix[name].loss == min(choice.loss for choice in options) for name, options in layers.items())


def test_backing_off_starts_where_most_loss_is_given_back_for_a_unit_of_cost():
    layers = made([[(9.0, 0.0), (1.0, 0.08)], [(3.0, 0.0), (1.0, 0.05)]])
    mix = {name: options[1] for name, options in layers.items()}
    assert backed_off(layers, mix)["layer.1"].loss == 0.0
