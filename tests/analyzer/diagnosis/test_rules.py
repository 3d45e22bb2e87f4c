import dataclasses

import pytest

from analyzer.diagnosis import dispatch_bound, memory_bound
from analyzer.diagnosis.calls import base_name, calls_of, ideal_seconds
from analyzer.diagnosis.diagnose import diagnose
from tests.synthetic import BYTES_PER_SECOND, Call, make_run

SMALL = [Call("aten::mul", 3e-6, reads=(index - 1,) if index else ()) for index in range(11)]


def test_names_lose_namespace_and_underscore():
    assert [base_name(name) for name in ("aten::add_", "aten::mul", "sigmoid", "aten::__and__")] == [
        "add", "mul", "sigmoid", "__and__",
    ]  # fmt: skip


def test_a_call_has_the_time_and_work_of_all_that_it_called():
    run = make_run(
        [
            Call("aten::linear", 1e-6, flops=0.0, bytes_moved=0),
            Call("aten::addmm", 5e-6, parent=0, flops=2e5, bytes_moved=1000),
        ]
    )
    (call,) = calls_of(run)
    assert call.seconds == pytest.approx(6e-6)
    assert (call.flops, call.bytes_moved) == (2e5, 1000)
    assert call.ideal_seconds == pytest.approx(max(2e5 / 1e11, 1000 / 1e10))
    assert call.kind == "other"


def test_the_roofline_takes_the_slower_of_compute_and_memory():
    device = make_run(SMALL).device
    assert ideal_seconds(device, 1e11, 0) == pytest.approx(1.0)
    assert ideal_seconds(device, 0, 1e10) == pytest.approx(1.0)
    unknown = dataclasses.replace(device, flops_per_second=None, bytes_per_second=None)
    assert ideal_seconds(unknown, 1e11, 1e10) == 0.0


def test_a_run_of_small_ops_is_dispatch_bound():
    (finding,) = dispatch_bound.find(make_run(SMALL))
    assert finding.ops == tuple(range(11))
    assert finding.optimizer == "fusion"
    assert finding.evidence["ops"] == 11
    assert finding.evidence["self_seconds"] == pytest.approx(33e-6)
    waste = 33e-6 - 11 * 2 * 4 * 128 / BYTES_PER_SECOND
    assert finding.estimate.high == pytest.approx(waste)
    assert finding.estimate.mid == pytest.approx(0.8 * waste)


def large(count: int) -> list[Call]:
    return [Call("aten::mm", 1e-3, flops=9e7) for _ in range(count)]


FREE = [dataclasses.replace(call, reads=()) for call in SMALL]


def test_the_python_between_ops_counts_as_waste():
    (finding,) = dispatch_bound.find(make_run(SMALL, step_seconds=33e-6 + 11e-6))
    assert finding.evidence["between_ops_seconds"] == pytest.approx(11e-6)
    waste = 33e-6 + 11e-6 - 11 * 2 * 4 * 128 / BYTES_PER_SECOND
    assert finding.estimate.high == pytest.approx(waste)


def test_few_large_ops_between_small_ones_do_not_end_a_stretch():
    (finding,) = dispatch_bound.find(make_run([*FREE[:5], *large(4), *FREE[:5]]))
    assert finding.evidence["ops"] == 10
    assert finding.ops == (0, 1, 2, 3, 4, 9, 10, 11, 12, 13)


def test_many_large_ops_end_a_stretch():
    findings = list(dispatch_bound.find(make_run([*FREE[:9], *large(5), *FREE[:8]])))
    assert [finding.evidence["ops"] for finding in findings] == [9, 8]


def test_few_small_ops_or_views_alone_are_no_finding():
    assert list(dispatch_bound.find(make_run(SMALL[:7]))) == []
    views = [Call("aten::view", 1e-6, flops=0.0, bytes_moved=0) for _ in range(40)]
    assert list(dispatch_bound.find(make_run(views))) == []


def test_ops_that_are_busy_with_work_are_not_dispatch_bound():
    busy = [Call("aten::mm", 4e-6, flops=3e5) for _ in range(20)]
    assert list(dispatch_bound.find(make_run(busy))) == []


def test_phases_are_kept_apart():
    calls = [Call("aten::mul", 3e-6, phase=phase) for phase in ("forward",) * 9 + ("backward",) * 10]
    findings = list(dispatch_bound.find(make_run(calls, training=True)))
    assert [(finding.evidence["phase"], finding.evidence["ops"]) for finding in findings] == [
        ("forward", 9), ("backward", 10),
    ]  # fmt: skip
    assert {finding.optimizer for finding in findings} == {""}


LARGE = 1_000_003


def chain(*names: str) -> list[Call]:
    return [Call(name, 1e-3, reads=(index - 1,) if index else (), elements=LARGE) for index, name in enumerate(names)]


def test_a_chain_of_large_pointwise_ops_is_memory_bound():
    (finding,) = memory_bound.find(make_run(chain("aten::mul", "aten::add", "aten::tanh")))
    assert finding.ops == (0, 1, 2)
    assert finding.evidence["intermediate_bytes"] == 2 * 2 * 4 * LARGE
    assert finding.evidence["bytes_moved"] == 3 * 2 * 4 * LARGE
    assert finding.estimate.high == pytest.approx(2 / 3 * 3e-3)
    assert "mul -> add -> tanh" in finding.title


def test_a_matmul_breaks_the_chain():
    calls = chain("aten::mul", "aten::add", "aten::mm", "aten::tanh", "aten::neg")
    findings = list(memory_bound.find(make_run(calls)))
    assert [finding.ops for finding in findings] == [(0, 1), (3, 4)]


def test_a_tensor_with_two_readers_is_no_link():
    calls = [*chain("aten::mul", "aten::add"), Call("aten::mm", 1e-3, reads=(0,), elements=LARGE)]
    assert list(memory_bound.find(make_run(calls))) == []


def test_one_op_alone_small_ops_and_an_empty_graph_are_no_chain():
    assert list(memory_bound.find(make_run(chain("aten::mul")))) == []
    assert list(memory_bound.find(make_run(SMALL))) == []
    assert list(memory_bound.find(make_run([]))) == []


def test_findings_are_ranked_by_what_they_give_back():
    calls = [
        *SMALL,
        *(dataclasses.replace(call, reads=(10 + index,)) for index, call in enumerate(chain("aten::mul", "aten::add"))),
    ]
    run = make_run(calls)
    diagnosis = diagnose(run)
    assert [finding.rule for finding in diagnosis.findings] == ["memory-bound", "dispatch-bound"]
    mids = [finding.estimate.mid for finding in diagnosis.findings]
    assert mids == sorted(mids, reverse=True)
    assert diagnosis.parent == run.id
    assert diagnose(run) == diagnosis
    assert diagnose(make_run([])).findings == ()


def test_what_gives_back_next_to_nothing_is_left_out():
    assert diagnose(make_run(SMALL, step_seconds=1.0)).findings == ()
