"""What repeating an op takes beside it is measured, and prices what is made again."""

import pytest
import torch

from analyzer.workload import Stepper
from optimizers.swap.fit import timeline_of
from optimizers.swap.repetition_cost import RepetitionCost, measure_repetition
from optimizers.swap.trace import lasting
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


@pytest.mark.parametrize("times", [0.25, 1.0, 3.0])
def test_events_last_what_the_step_took_with_the_engine_on(times):
    trace = trace_step(Stepper(training("recurrent")), 1)
    found = lasting(trace, times * trace.step_seconds)
    assert sum(found.event_seconds) == pytest.approx(times * trace.step_seconds)
    pairs = list(zip(trace.event_seconds, found.event_seconds, strict=True))
    if times > 1.0:
        more = [after - before for before, after in pairs]
        assert max(more) == pytest.approx(min(more)) and min(more) > 0.0
    else:
        assert all(after == pytest.approx(times * before) for before, after in pairs)
    assert (found.marks, found.allocations, found.op_seconds) == (trace.marks, trace.allocations, trace.op_seconds)
