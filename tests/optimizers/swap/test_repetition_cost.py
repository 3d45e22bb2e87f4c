"""What repeating an op takes beside it is measured, and prices what is made again."""

import torch

from analyzer.workload import Stepper
from optimizers.swap.fit import timeline_of
from optimizers.swap.repetition_cost import RepetitionCost, measure_repetition
from optimizers.swap.tracer import trace_step
from tests.optimizers.swap.training_models import training


def test_the_cost_is_a_short_time_and_leaves_the_random_state_alone():
    before = torch.get_rng_state()
    found = measure_repetition()
    assert 0.0 < found.op_seconds < 0.1
    assert 0.0 <= found.watch_seconds < 0.1
    assert torch.equal(torch.get_rng_state(), before)


def test_a_recipe_takes_longer_by_the_cost_of_each_op_that_it_repeats():
    trace = trace_step(Stepper(training("attentive")), 1)
    free = timeline_of(trace, (), ("recompute",))
    priced = timeline_of(trace, (), ("recompute",), RepetitionCost(0.5, 0.0))
    assert [recipe.buffer for recipe in priced.timeline.recipes] == [recipe.buffer for recipe in free.timeline.recipes]
    assert free.timeline.recipes
    for cheap, dear in zip(free.timeline.recipes, priced.timeline.recipes, strict=True):
        ops = priced.recipe_ops[dear.buffer, dear.before]
        assert abs(dear.seconds - cheap.seconds - 0.5 * len(ops)) < 1e-9
