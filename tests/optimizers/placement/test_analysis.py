import dataclasses

import pytest

from analyzer.errors import RecordError
from optimizers.placement.analysis import ACCUMULATE, analyse
from optimizers.placement.arena import METADATA_BYTES, lay_out
from optimizers.placement.buckets import DDP_FIRST_BYTES, Gradient, decode_buckets, make_buckets
from optimizers.placement.errors import PlacementError
from optimizers.placement.shapes import compare_shapes
from tests.optimizers.placement.training_runs import training_run


@pytest.fixture(scope="module")
def traffic():
    return analyse(training_run())


def test_gradients_are_ready_last_layer_first_and_needed_by_the_optimizer(traffic):
    assert [item.scope for item in traffic.gradients] == ["layers.2", "layers.1", "layers.0"]
    assert [item.shape for item in traffic.gradients] == [(129, 17), (65, 129), (33, 65)]
    ready = [item.ready_seconds for item in traffic.gradients]
    assert ready == sorted(ready) and ready[0] > traffic.forward_seconds
    assert all(item.ready_seconds < item.needed_seconds <= traffic.step_seconds for item in traffic.gradients)
    assert traffic.gradient_bytes == 4 * (129 * 17 + 65 * 129 + 33 * 65)


def test_phases_add_up_to_the_step_without_a_profiler(traffic):
    parts = traffic.forward_seconds + traffic.backward_seconds + traffic.optimizer_seconds
    assert parts == pytest.approx(traffic.step_seconds) == pytest.approx(0.06)


def test_parameters_are_needed_in_the_forward_and_ready_after_the_optimizer(traffic):
    assert [item.shape for item in traffic.parameters] == [(33, 65), (65, 129), (129, 17)]
    assert all(item.needed_seconds < traffic.forward_seconds < item.ready_seconds for item in traffic.parameters)


def test_a_chain_is_cut_between_its_layers_where_one_activation_crosses(traffic):
    assert [cut.scope for cut in traffic.cuts] == ["layers.0", "layers.1"]
    assert [[item.shape for item in cut.crossing] for cut in traffic.cuts] == [[(8, 65)], [(8, 129)]]
    assert [cut.parameter_bytes for cut in traffic.cuts] == [4 * 33 * 65, 4 * (33 * 65 + 65 * 129)]
    assert traffic.cuts[0].backward_seconds < traffic.cuts[1].backward_seconds < traffic.backward_seconds


def test_what_does_not_train_or_shows_no_gradients_is_refused():
    run = training_run()
    with pytest.raises(PlacementError, match="does not train"):
        analyse(dataclasses.replace(run, training=False))
    ops = tuple(op if op.name != ACCUMULATE else dataclasses.replace(op, name="other") for op in run.graph.ops)
    with pytest.raises(PlacementError, match="no gradient being accumulated"):
        analyse(dataclasses.replace(run, graph=dataclasses.replace(run.graph, ops=ops)))


def test_a_shape_that_another_run_has_otherwise_is_dynamic_and_the_others_static(traffic):
    found = compare_shapes(traffic, {"1": analyse(training_run(rows=8)), "2": analyse(training_run(rows=11))})
    assert found.runs == 3 and not any(item.dynamic for item in (*found.gradients, *found.parameters))
    assert [item.dynamic for cut in found.cuts for item in cut.crossing] == [
        "8x65 here, 11x65 in run 2", "8x129 here, 11x129 in run 2"
    ]  # fmt: skip
    fewer = compare_shapes(traffic, {"3": analyse(training_run(widths=(33, 65, 129)))})
    assert any("no such tensor" in item.dynamic or "here" in item.dynamic for item in fewer.gradients)


def gradients(sizes, dtypes=None):
    return [
        Gradient(f"p{place}", (size // 4,), (dtypes or ["float32"] * len(sizes))[place], size, 0.001 * place)
        for place, size in enumerate(sizes)
    ]


@pytest.mark.parametrize("cap", [1, 4096, 1 << 20, 25 << 20])
@pytest.mark.parametrize("first", [None, DDP_FIRST_BYTES])
def test_buckets_are_filled_as_torch_fills_them(cap, first):
    import torch

    sizes = [40, 40960, 4096, 8388608, 8192, 2097152, 4, 3211264, 12]
    plan = make_buckets(gradients(sizes), cap, world_size=2, first_bytes=first)
    limits = [cap] if first is None else [first, cap]
    groups, _ = torch.distributed._compute_bucket_assignment_by_size([torch.zeros(s // 4) for s in sizes], limits)
    assert [[int(name[1:]) for name in bucket.parameters] for bucket in plan.buckets] == groups


def test_buckets_hold_every_gradient_once_and_never_two_dtypes():
    plan = make_buckets(gradients([100, 60, 80, 44], ["float32", "float16", "float32", "float16"]), 150, world_size=3)
    assert sorted(name for bucket in plan.buckets for name in bucket.parameters) == ["p0", "p1", "p2", "p3"]
    assert {bucket.dtype for bucket in plan.buckets} == {"float32", "float16"} and plan.gradient_bytes == 284
    assert [bucket.ready_seconds for bucket in plan.buckets] == sorted(b.ready_seconds for b in plan.buckets)
    assert plan.renamed({"p0": "head.weight"}).buckets[0].parameters[0] == "head.weight"
    assert decode_buckets(plan.encode()) == plan


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"cap_bytes": 0}, "holds nothing"),
        ({"world_size": 1}, "exchanges nothing"),
        ({"form": "tree"}, "choose one of"),
    ],
)
def test_buckets_that_cannot_be_are_refused(change, words):
    with pytest.raises(PlacementError, match=words):
        make_buckets(gradients([4]), **{"cap_bytes": 8, "world_size": 2, **change})
    with pytest.raises(PlacementError, match="no gradients"):
        make_buckets([], 8, world_size=2)


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"\xff"])
def test_a_damaged_bucket_plan_is_said(content):
    with pytest.raises(RecordError):
        decode_buckets(content)


def test_a_newer_bucket_plan_is_refused():
    plan = make_buckets(gradients([4]), 8, world_size=2)
    with pytest.raises(RecordError, match="newer"):
        decode_buckets(dataclasses.replace(plan, format_version=99).encode())


@pytest.mark.parametrize("alignment", [1, 64, 4096])
def test_rooms_of_an_arena_are_aligned_and_never_overlap(traffic, alignment):
    plan = make_buckets(traffic.ready, 9000, world_size=2)
    crossing = (*traffic.cuts[0].crossing, dataclasses.replace(traffic.cuts[1].crossing[0], dynamic="8 or 9 rows"))
    arena = lay_out(plan, crossing, peers=2, alignment=alignment)
    end = 0
    for room in arena.rooms:
        assert room.offset_bytes % alignment == 0 and room.offset_bytes >= end
        end = room.offset_bytes + room.bytes
    assert end <= arena.bytes and [room.bytes for room in arena.rooms if room.what == "metadata"] == [METADATA_BYTES]
    with pytest.raises(PlacementError, match="power of two"):
        lay_out(plan, alignment=48)
