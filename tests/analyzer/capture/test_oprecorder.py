"""Our recorder sees what torch's profiler sees, by halves too, and refuses what it can't see whole."""

import threading

import pytest
import torch

from analyzer.capture.blocks import BlockPlan
from analyzer.capture.oprecorder import Halving, RecorderError, op_recorder
from analyzer.capture.profilerrecorder import ProfilerRecorder
from analyzer.capture.quiet import quiet_profiler
from analyzer.capture.recorderchoice import why_not_ours
from analyzer.capture.timingpass import run_timing_pass
from analyzer.errors import WorkloadError
from analyzer.workload import Stepper, Workload
from tests.analyzer.capture.small import Function, capture_workload

pytestmark = pytest.mark.skipif(why_not_ours() != "", reason=f"our recorder is not used here: {why_not_ours()}")
BY_HALVES = Halving(0.0, 1, 2)


def chain(x):
    for turn in range(9):
        with torch.profiler.record_function(f"turn {turn}"):
            x = torch.nn.functional.linear(x, torch.eye(5)).softmax(dim=-1)
        x = (x + x[:, :1]).mul_(0.5)
    return x


def stepper_of(function, **more):
    return Stepper(Workload(model=Function(function), inputs=(torch.rand(3, 5),), **more))


def training_stepper():
    model = torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.GELU(), torch.nn.Linear(7, 2))
    optimizer = torch.optim.AdamW(model.parameters())
    loss = lambda output, batch: output.square().mean()  # noqa: E731
    return Stepper(Workload(model=model, inputs=(torch.rand(3, 5),), loss=loss, optimizer=optimizer))


def recorded(stepper, steps, halving=None):
    with op_recorder(halving) as recorder:
        plan = recorder.prepare(stepper, BlockPlan(1, steps, lead_in=True))
        return recorder.block(stepper, plan)


@pytest.mark.parametrize("make", [lambda: stepper_of(chain), training_stepper], ids=["forward", "training"])
def test_names_order_and_nesting_are_the_profilers(make):
    stepper = make()
    stepper.step()
    with quiet_profiler():
        (theirs,) = ProfilerRecorder("cpu").block(stepper, BlockPlan(1, 1, lead_in=True)).steps
    ours = recorded(stepper, 4).steps
    assert len(ours) == 4 and len(theirs.names) > 20
    for step in ours:
        assert (step.names, step.parents) == (theirs.names, theirs.parents)
        assert all(own is not None and own >= 0 for own in step.self_nanoseconds)


@pytest.mark.parametrize("make", [lambda: stepper_of(chain), training_stepper], ids=["forward", "training"])
def test_halves_are_the_ends_of_the_whole_step_and_meet(make):
    stepper = make()
    stepper.step()
    whole = recorded(stepper, 1).steps[0]
    halves = recorded(stepper, 60, BY_HALVES).steps
    assert len(halves) == 60
    known = [[own is not None for own in step.self_nanoseconds] for step in halves]
    assert all(step.names == whole.names and step.parents == whole.parents for step in halves)
    for first in known[0::2]:
        assert first[0] and not first[-1] and 0.4 < sum(first) / len(first) < 0.6
    for second in known[1::2]:
        # Once recording has begun nothing is left out to the end.
        assert second == sorted(second)
    assert all(any(column) for column in zip(*known, strict=True))


def test_an_op_of_known_length_takes_it():
    a = torch.randn(600, 600)
    step = recorded(stepper_of(lambda x: (a @ a, x.neg())[1]), 5).steps
    slow = min(one.self_nanoseconds[one.names.index("aten::mm")] for one in step)
    quick = min(one.self_nanoseconds[one.names.index("aten::neg")] for one in step)
    assert 1e4 * 1e3 > slow / 1e3 > 100 > quick / 1e3 > 0.01


def test_where_steps_differ_all_are_recorded_whole_from_then_on():
    turns = iter(range(1000))

    def changing(x):
        x = (x.neg if next(turns) % 2 else x.abs)()
        for _ in range(8):
            x = x.exp()
        return x

    with op_recorder(BY_HALVES) as recorder:
        stepper = stepper_of(changing)
        plan = recorder.prepare(stepper, BlockPlan(1, 6, lead_in=False))
        assert recorder.halves
        first, then = recorder.block(stepper, plan).steps, recorder.block(stepper, plan).steps
        assert not recorder.halves and len(first) < 6 and len(then) == 6
        assert {step.names[0] for step in then} == {"aten::neg", "aten::abs"}
        assert all(own is not None for step in then for own in step.self_nanoseconds)


def on_another_thread(x):
    thread = threading.Thread(target=x.neg)
    thread.start()
    thread.join()
    return x.exp()


def test_ops_of_another_thread_are_refused():
    with pytest.raises(RecorderError, match="more threads"):
        recorded(stepper_of(on_another_thread), 2)


def test_the_timing_pass_then_takes_the_profiler_and_says_why():
    with quiet_profiler():
        result = run_timing_pass(stepper_of(on_another_thread), "cpu", BlockPlan(2, 3, lead_in=True), lambda *_: None)
    assert result.not_ours == "ops ran on more threads than the step's own"
    assert len(result.steps) == 6 and all("aten::exp" in step.names for step in result.steps)


def test_the_timing_pass_takes_ours_where_nothing_is_lost():
    result = run_timing_pass(stepper_of(chain), "cpu", BlockPlan(2, 3, lead_in=True), lambda *_: None)
    assert (result.not_ours, len(result.steps), len(result.plain_seconds)) == ("", 6, 6)


def test_one_recorder_at_a_time():
    with op_recorder(), pytest.raises(RecorderError, match="another capture"), op_recorder():
        pass
    with op_recorder():
        pass


def test_after_a_step_that_raises_nothing_is_recorded_any_more():
    def failing(x):
        x.neg()
        raise ValueError("mine")

    with op_recorder(None) as recorder:
        with pytest.raises(WorkloadError, match="mine"):
            recorder.prepare(stepper_of(failing), BlockPlan(1, 1, lead_in=False))
        before = recorder.state.entries
        torch.ones(3).exp()
        assert recorder.state.entries == before and recorder.state.strangers == 0


def test_a_range_that_is_left_open_ends_later_without_harm():
    left = torch.profiler.record_function("left open")

    def opening(x):
        left.__enter__()
        return x.neg()

    with pytest.raises(RecorderError, match="differ in number"):
        recorded(stepper_of(opening), 1)
    left.__exit__(None, None, None)


def test_more_blocks_are_run_where_halves_need_them_and_the_plan_allows_it():
    rule = Halving(0.0, 1, 20)
    with op_recorder(rule) as recorder:
        plan = recorder.prepare(stepper_of(chain), BlockPlan(4, 2, lead_in=True, open_ended=True))
        assert (plan.blocks, plan.steps, recorder.halves) == (10, 2, True)
    with op_recorder(rule) as recorder:
        plan = recorder.prepare(stepper_of(chain), BlockPlan(4, 2, lead_in=True))
        assert (plan.blocks, plan.steps, recorder.halves) == (4, 2, False)


def test_a_capture_by_halves_times_every_op_and_says_so():
    def many(x):
        for _ in range(60):
            x = x.chunk(5, dim=1)[0].expand(3, 5).neg()
        return x

    run = capture_workload(Workload(model=Function(many), inputs=(torch.rand(3, 5),)), steps=40)
    assert run.coverage.timed_ops == 1.0 and any("about half of them" in note for note in run.notes)
    samples = [op.self_seconds.samples for op in run.graph.ops if op.self_seconds is not None]
    assert 5 <= min(samples) < max(samples) <= 40


def test_a_capture_of_few_steps_times_every_op_in_each():
    run = capture_workload(Workload(model=Function(chain), inputs=(torch.rand(3, 5),)), steps=6)
    assert {op.self_seconds.samples for op in run.graph.ops if op.self_seconds is not None} == {6}
    assert not any("half" in note or "our recorder" in note for note in run.notes)
