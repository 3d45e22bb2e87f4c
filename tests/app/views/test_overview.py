import dataclasses

import pytest

from analyzer.device import Device, Peak
from analyzer.run import DeviceSample, Kernel
from app.views.overview import finding_view, flop_rate, make_overview
from tests.app.values import HOSTILE, report_diagnosis, report_run
from tests.synthetic import Call, make_run


def overview(run):
    return make_overview(run, report_diagnosis(run))


def card(run, label):
    (found,) = (item for item in overview(run).figures if item.label == label)
    return found


def on_a_gpu(**changes):
    device = Device("cuda", "H100", 80 * 2**30, 132, Peak(1e9, "FLOP/s", "cited: data sheet"))
    given = {"device": device, "busy_seconds": 6e-4, "idle_seconds": 6e-4, "kernels": (Kernel("k", 0, 7, 0.0, 1e-5),)}
    return dataclasses.replace(report_run(), **given | changes)


def test_the_step_time_comes_with_its_percentiles_and_how_many_steps():
    found = card(report_run(), "Step time")
    assert found.value == "1.90 ms" and "p95 2.28 ms" in found.lines[0] and "21 steps" in found.lines[1]


def test_the_time_between_the_ops_is_explained_with_both_figures_and_only_where_there_is_some():
    calls = [Call("aten::mm", 1e-3), Call("aten::mul", 1e-3)]
    shown = overview(make_run(calls, step_seconds=5e-3)).between
    assert "add up to 2.00 ms" in shown and "takes 5.00 ms" in shown and "between the ops" in shown
    assert overview(make_run(calls, step_seconds=1e-3)).between == ""


def test_on_a_cpu_device_use_is_not_measured_and_says_so():
    found = card(report_run(), "Device use")
    assert found.value == "not measured" and not found.measured and "CPU" in found.lines[0]


def test_on_a_gpu_device_use_is_busy_time_over_the_window():
    found = card(on_a_gpu(), "Device use")
    assert found.value == "50.0 %" and found.tone == "warn"
    assert found.lines == ("0.600 ms idle of 1.20 ms", "1 kernel in the step")
    assert card(on_a_gpu(busy_seconds=0.0, idle_seconds=0.0), "Device use").value == "0.0 %"


def test_achieved_flops_are_the_known_ones_over_the_step_time():
    calls = [
        Call("aten::mm", 1e-3, flops=2e6),
        Call("aten::custom", 1e-3, flops=0.0),
        Call("aten::mul", 1e-3, flops=1e6),
    ]
    found = card(make_run(calls, step_seconds=1e-3), "Achieved FLOP/s")
    assert found.value == "3.00 GFLOP/s"
    assert found.lines[0] == "3.0 % of the measured peak, 100 GFLOP/s"
    assert "3.00 MFLOP a step; 66.7 % of ops have a count" in found.lines[1]


def test_an_op_that_only_calls_others_counts_in_neither():
    run = make_run([Call("aten::linear", 1e-3, flops=5e6), Call("aten::addmm", 1e-3, flops=5e6)], step_seconds=1e-3)
    ops = (dataclasses.replace(run.graph.ops[0], executes=False, flops=0.0), run.graph.ops[1])
    run = dataclasses.replace(run, graph=dataclasses.replace(run.graph, ops=ops))
    assert "100.0 % of ops have a count" in card(run, "Achieved FLOP/s").lines[1]


def test_without_any_known_flops_none_are_claimed():
    found = card(make_run([Call("aten::custom", 1e-3, flops=0.0)]), "Achieved FLOP/s")
    assert found.value == "–" and not found.measured and found.lines == ("0.0 % of ops have a count",)


def test_a_peak_is_named_measured_or_cited_or_not_known():
    assert "of the cited peak" in card(on_a_gpu(), "Achieved FLOP/s").lines[0]
    unknown = on_a_gpu(device=dataclasses.replace(on_a_gpu().device, flops_per_second=None))
    assert card(unknown, "Achieved FLOP/s").lines[0] == "the device's peak is not known"


@pytest.mark.parametrize(
    "rate, words", [(1.12e14, "112 TFLOP/s"), (2.94e9, "2.94 GFLOP/s"), (5e6, "5.00 MFLOP/s"), (12.0, "12.0 FLOP/s")]
)
def test_a_rate_has_the_unit_that_fits(rate, words):
    assert flop_rate(rate) == words


def test_each_kind_of_op_names_its_slowest_one():
    calls = [Call("aten::mm", 1e-3), Call("aten::mm", 3e-3), Call("aten::mm", 2e-3), Call("aten::mul", 1e-4)]
    first, second = overview(make_run(calls)).hot_ops
    assert (first["name"], first["count"], first["hottest"]) == ("aten::mm", 3, 1)
    assert second["hottest"] == 3


def test_a_finding_sets_what_was_measured_apart_from_what_is_predicted():
    run = report_run()
    view = finding_view(report_diagnosis(run).findings[0], run)
    assert (view.estimate, view.interval) == ("0.230 ms", "0.140 ms to 0.290 ms")
    assert view.share == "12.1 % of the step" and view.optimizer == "fusion"
    assert ("self time", "0.410 ms") in view.evidence


def test_names_from_a_trace_lose_their_control_characters():
    view = overview(report_run())
    assert "\x1b" in HOSTILE and all("\x1b" not in note for note in view.notes)
    assert all("\x1b" not in finding.title for finding in view.findings)


def test_what_the_driver_does_not_tell_is_left_out():
    samples = tuple(DeviceSample(index * 0.02, 0.5, None, 300.0 + index, None, None) for index in range(5))
    labels = [label for label, _, _ in overview(on_a_gpu(samples=samples)).device]
    assert labels == ["Utilization", "Power"]
    assert overview(report_run()).device == ()


def test_a_run_without_ops_is_shown_too():
    view = overview(make_run([]))
    assert view.hot_ops == () and view.op_names == 0 and view.modules == ()
