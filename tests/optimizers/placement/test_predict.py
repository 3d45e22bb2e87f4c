import dataclasses
import math
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer.device import Peak
from optimizers.placement.backend_costs import BACKEND_COSTS, cost_named
from optimizers.placement.calibration import (
    Calibration,
    calibration_file,
    fit_link,
    load_calibration,
    merge,
    save_calibration,
)
from optimizers.placement.cluster import load_cluster, read_cluster
from optimizers.placement.clusters import cluster_folder, find_cluster
from optimizers.placement.costs import Costs, MeasuredExchange, Point, Rates
from optimizers.placement.errors import PlacementError
from optimizers.placement.exchange import processor
from optimizers.placement.memory_use import memory_shares
from optimizers.placement.outlook import look_ahead
from optimizers.placement.plans import KINDS, DistributedPlan, profile_of
from optimizers.placement.predict import added_errors, predict, simulate_plan
from optimizers.placement.rank_work import Beside, StepWork
from optimizers.placement.scale import scale_curve
from optimizers.placement.schedule_data import COMPUTE, EXCHANGE
from optimizers.placement.search import search
from optimizers.placement.seats import seat
from optimizers.placement.stages import make_stages
from optimizers.placement.this_machine import this_machine
from tests.optimizers.placement.training_runs import training_run

WIDTHS = (257, 513, 1025, 129)


@pytest.fixture(scope="module")
def profile():
    return profile_of(training_run(WIDTHS))


@pytest.fixture(scope="module")
def gpus():
    return load_cluster(cluster_folder() / "h100-hosts.yaml")


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HOTBENCH_CACHE", str(tmp_path))
    return tmp_path


def exchange(backend, world, *points):
    return MeasuredExchange(backend, world, tuple(Point(*point) for point in points), "measured: here")


def test_one_worker_takes_the_captured_step(profile):
    found = predict(profile, DistributedPlan("all-reduce", "gloo", 1), this_machine(1))
    assert found.seconds == pytest.approx(profile.seconds) == pytest.approx(0.06) and found.exposed_seconds < 1e-9


def test_an_exchange_that_does_not_overlap_comes_on_top_and_an_overlapped_one_is_partly_hidden(profile):
    alone = dataclasses.replace(this_machine(2).hosts[0], cores=64)
    cluster = dataclasses.replace(this_machine(2), hosts=(alone,))
    size = profile.gradient_bytes
    costs = Costs(measured=(exchange("gloo", 2, (1, 1e-6, 0.0), (size, 0.009, 0.0)),
                            exchange("grpc-flat", 2, (1, 1e-6, 0.0), (size, 0.009, 0.0))))  # fmt: skip
    flat = predict(profile, DistributedPlan("parameter-server", "grpc-flat", 2), cluster, costs)
    assert flat.seconds == pytest.approx(profile.seconds + 0.009) and flat.hidden_seconds == pytest.approx(0, abs=1e-9)
    small = predict(profile, DistributedPlan("all-reduce", "gloo", 2, cap_bytes=1 << 16), cluster, costs)
    assert profile.seconds <= small.seconds * (1 + 1e-9) < flat.seconds and small.hidden_seconds > 0.004
    assert small.exposed_seconds + small.hidden_seconds == pytest.approx(0.009, rel=1e-3)


def test_more_workers_than_cores_share_them(profile):
    host = dataclasses.replace(this_machine(4).hosts[0], cores=2)
    cluster = dataclasses.replace(this_machine(4), hosts=(host,))
    two, four = (predict(profile, DistributedPlan("all-reduce", "hotbench", world), cluster) for world in (2, 4))
    assert (
        four.compute_seconds == pytest.approx(2 * profile.seconds, rel=0.2) and four.seconds > 1.9 * two.seconds * 0.9
    )
    slowed = predict(profile, DistributedPlan("all-reduce", "hotbench", 2), cluster, Costs(rates=Rates(processor=0.5)))
    assert slowed.compute_seconds == pytest.approx(2 * profile.seconds, rel=0.2)


def test_workers_that_wait_for_memory_slow_each_other_down_and_those_that_compute_do_not(profile):
    plan, costs = DistributedPlan("all-reduce", "hotbench", 2), Costs(rates=Rates(1.0, 0.6))
    cluster = dataclasses.replace(this_machine(2), hosts=(dataclasses.replace(this_machine(2).hosts[0], cores=2),))
    shares = {share: tuple((phase, share) for phase in COMPUTE) for share in (0.0, 0.5, 1.0)}
    none, half, whole = (
        predict(dataclasses.replace(profile, memory_shares=found), plan, cluster, costs).compute_seconds
        for found in shares.values()
    )
    # Two at half a core's bandwidth find what they need in 1.2 of it, two at the whole of it get 0.6 each.
    assert none == pytest.approx(half, rel=0.1) and whole == pytest.approx(none / 0.6, rel=0.1)
    assert predict(profile, DistributedPlan("all-reduce", "hotbench", 1), cluster, costs).seconds == pytest.approx(0.06)


def test_an_ops_share_of_memory_is_what_its_bytes_take_at_the_measured_bandwidth():
    run = training_run(WIDTHS)
    seconds = {"forward": 3e-3, "backward": 3 * (4e-3 + 1e-5), "optimizer": 1.5e-3}
    ops = tuple(dataclasses.replace(op, bytes_moved=10**7) for op in run.graph.ops)
    moved = dataclasses.replace(run, graph=dataclasses.replace(run.graph, ops=ops))
    peak = dataclasses.replace(run.device, kind="cpu", bytes_per_second=Peak(2e10, "B/s", "measured: here"))
    found = dict(memory_shares(dataclasses.replace(moved, device=peak)))
    assert found["forward"] == pytest.approx(3 * 5e-4 / seconds["forward"])
    # No op can take longer for its bytes than it took at all.
    assert found["backward"] == pytest.approx((6 * 5e-4 + 3 * 1e-5) / seconds["backward"])
    assert found["optimizer"] == pytest.approx(1.0)
    for device in (dataclasses.replace(peak, kind="cuda"), dataclasses.replace(peak, bytes_per_second=None)):
        assert memory_shares(dataclasses.replace(moved, device=device)) == ()


def test_a_rank_copies_gradients_into_buckets_waits_for_the_slowest_and_meets_its_hooks(profile):
    plan, cluster = DistributedPlan("all-reduce", "gloo", 2), this_machine(2)
    host = dataclasses.replace(cluster.hosts[0], cores=2)
    cluster = dataclasses.replace(cluster, hosts=(host,))
    base = predict(profile, plan, cluster).compute_seconds
    work = StepWork(1e-3, 1e-4, 1e-3 / profile.gradient_bytes)
    more = predict(profile, plan, cluster, Costs(work={"gloo": work, "hotbench": StepWork(1.0)})).compute_seconds
    # Backward goes on while the first buckets are on their way, so that each millisecond costs up to some more.
    expected = 2e-3 + 1e-4 * len(profile.gradients)
    assert base + 0.9 * expected < more < base + 2 * expected
    late = Costs(rates=Rates(slowest=0.05))
    assert predict(profile, plan, cluster, late).compute_seconds == pytest.approx(1.05 * base, rel=0.02)
    assert late.rates.waiting(1) == 0.0 < late.rates.waiting(4) - late.rates.waiting(2)
    assert predict(profile, DistributedPlan("all-reduce", "gloo", 1), cluster, late).seconds == pytest.approx(0.06)


def test_an_exchange_that_computing_slows_down_is_predicted_so(profile):
    size, cluster = profile.gradient_bytes, this_machine(2)
    host = dataclasses.replace(cluster.hosts[0], cores=2)
    cluster = dataclasses.replace(cluster, hosts=(host,))
    points = (Point(1, 1e-5, 1e-5), Point(size, 0.03, 0.03))
    steps = []
    for beside in (None, Beside(0.8, 1.0, 0.0), Beside(0.4, 3.0, 0.0)):
        costs = Costs(measured=(MeasuredExchange("gloo", 2, points, "measured: here", beside),))
        steps.append(predict(profile, DistributedPlan("all-reduce", "gloo", 2, cap_bytes=size // 3), cluster, costs))
    assert steps[0].seconds < steps[2].seconds and steps[1].seconds < steps[2].seconds


def test_a_server_of_ours_takes_as_many_times_longer_as_there_are_workers(profile):
    costs = Costs(measured=(exchange("hotbench", 4, (1, 1e-5, 0.0), (profile.gradient_bytes, 0.4, 0.4)),))
    cluster, size = this_machine(4), profile.gradient_bytes
    seating, cost = seat(cluster, 4), cost_named("hotbench")
    together, alone = costs.reduce(size, 1, seating, cost), costs.serve(size, seating, cost)
    assert alone.seconds == pytest.approx(4 * together.seconds, rel=1e-2)
    assert dict(alone.uses)[processor(seating.seats[0])] == pytest.approx(
        dict(together.uses)[processor(seating.seats[0])] / 4
    )
    served, reduced = (
        predict(profile, DistributedPlan(kind, "hotbench", 4), cluster, costs)
        for kind in ("parameter-server", "all-reduce")
    )
    assert served.seconds > reduced.seconds


@given(st.floats(0.5, 2.0), st.floats(0.5, 1.0), st.floats(0.5, 1.0))
def test_independent_errors_add_as_squares(middle, first, second):
    low = added_errors(middle, middle * first, middle * second)
    assert middle * first * second * (1 - 1e-9) <= low <= middle * min(first, second) * (1 + 1e-9)
    assert added_errors(middle, middle / first) == pytest.approx(middle / first)
    assert added_errors(middle, middle) == middle and added_errors(0.0, 3.0) == 3.0


def test_the_spread_of_what_was_measured_is_in_the_bounds_of_an_estimate(profile):
    size, plan = profile.gradient_bytes, DistributedPlan("all-reduce", "gloo", 2)
    bounds = []
    for ratios in ((1.0, 1.0), (0.2, 3.0)):
        points = (Point(1, 1e-4, 0.0, *ratios), Point(size, 0.3, 0.0, *ratios))
        costs = Costs(measured=(MeasuredExchange("gloo", 2, points, "measured: here"),))
        bounds.append(predict(profile, plan, this_machine(2), costs).step)
    steady, shaky = bounds
    assert steady.mid == shaky.mid and shaky.low < steady.low < steady.mid < steady.high < shaky.high


@given(st.sampled_from([kind for kind in KINDS if kind != "parameter-server"]), st.integers(1, 5), st.integers(16, 25))
@settings(max_examples=15, deadline=None)
def test_a_step_is_no_quicker_than_its_compute_and_its_estimate_is_in_order(profile_once, kind, power, cap):
    stages = 2 if kind == "pipeline" else 1
    plan = DistributedPlan(kind, "hotbench", 1 << power, cap_bytes=1 << cap, stages=stages, micro_batches=2 * stages)
    cluster = find_cluster("two-workstations", 2).grown(32)
    found = predict(profile_once, plan, cluster)
    assert found.step.low <= found.step.mid <= found.step.high
    assert found.seconds == pytest.approx(found.compute_seconds + found.exposed_seconds)
    assert found.compute_seconds >= 0.5 * profile_once.seconds * (1 if stages > 1 else 0.5) and found.memory_bytes > 0
    simulated = simulate_plan(profile_once, plan, seat(cluster, plan.world_size), Costs())
    # Every micro-batch and every bucket is there, whatever the plan.
    assert {task.kind for task in simulated.tasks} == {*COMPUTE, EXCHANGE}


@pytest.fixture(scope="module")
def profile_once():
    return profile_of(training_run(WIDTHS))


def test_stages_cover_the_model_and_the_slowest_is_as_quick_as_any_choice_allows(profile):
    for count in (1, 2, 3):
        stages = make_stages(profile, count, 1e12)
        assert math.fsum(stage.forward_seconds for stage in stages) == pytest.approx(profile.forward_seconds)
        assert math.fsum(stage.parameter_bytes for stage in stages) == profile.parameter_bytes
        assert stages[-1].handed_bytes == 0 and len(stages) == count
    with pytest.raises(PlacementError, match="can be cut at 2 places"):
        make_stages(profile, 4, 1e12)


def test_the_search_gives_the_best_of_each_kind_in_order_and_a_server_only_to_those_that_have_one(profile):
    found = search(profile, 8, find_cluster("two-workstations", 8))
    assert [item.seconds for item in found] == sorted(item.seconds for item in found)
    assert {item.plan.kind for item in found} == set(KINDS)
    served = search(profile, 8, find_cluster("two-workstations", 8), "grpc")
    assert [item.plan.kind for item in served] == ["parameter-server"]
    with pytest.raises(PlacementError, match="no plan of kind pipeline"):
        search(profile, 2, this_machine(2), "grpc", kinds=("pipeline",))
    with pytest.raises(PlacementError, match="no backend 'smoke'"):
        search(profile, 2, this_machine(2), "smoke")


def test_a_plan_that_does_not_fit_comes_last(profile):
    small = dataclasses.replace(this_machine(2).hosts[0], memory_bytes=2 * (profile.parameter_bytes * 2 + 1))
    found = search(profile, 2, dataclasses.replace(this_machine(2), hosts=(small,)))
    assert not found[-1].fits and [item.fits for item in found] == sorted((item.fits for item in found), reverse=True)


def test_curves_reach_1024_workers_and_efficiency_falls(profile, gpus):
    curve = scale_curve(profile, gpus, DistributedPlan("all-reduce", "hotbench", 2))
    assert [point.world_size for point in curve.points] == [1 << power for power in range(11)]
    assert curve.points[0].efficiency == pytest.approx(1.0)
    seconds = [point.step.mid for point in curve.points]
    assert all(right >= left * 0.999 for left, right in pairwise(seconds))


def test_the_outlook_has_every_backend_and_its_view_comes_back_from_json(profile, gpus):
    from optimizers.placement.views import decode_view

    view = look_ahead(profile, 16, gpus, cap_bytes=1 << 20)
    assert [item.name for item in view.backends] == [item.name for item in BACKEND_COSTS]
    assert view.backend("hotbench").predicted.plan.cap_bytes == view.buckets.cap_bytes == 1 << 20
    assert decode_view(view.encode()) == view and view.backend("none") is None
    with pytest.raises(PlacementError, match="2 workers or more"):
        look_ahead(profile, 1, gpus)


@given(st.floats(1e-7, 1e-3), st.floats(1e7, 1e11), st.integers(2, 9))
def test_alpha_and_beta_are_found_again_from_what_a_ring_of_them_takes(alpha, pace, world):
    steps = 2 * (world - 1)
    points = [(size, steps * (alpha + size / world / pace), 0.0) for size in (4096, 1 << 20, 1 << 24)]
    found = fit_link(exchange("gloo", world, *points))
    assert found == (pytest.approx(alpha, rel=1e-3), pytest.approx(pace, rel=1e-3))


def test_between_measured_sizes_costs_lie_on_a_straight_line():
    found = exchange("gloo", 2, (1000, 1.0, 0.5), (3000, 2.0, 1.5))
    assert found.at(2000) == (1.5, 1.0) and found.at(500) == (1.0, 0.5) and found.at(5000) == (3.0, 2.5)


def made():
    points = (Point(4096, 1e-3, 1e-3), Point(1 << 20, 2e-3, 2e-3))
    measured = MeasuredExchange("gloo", 2, points, "measured: here", Beside(0.5, 2.0, 1.0))
    return Calibration("cpu", 2, Rates(0.9, 0.7), (measured,), {"gloo": StepWork(1e-4)})


def test_a_calibration_is_kept_merged_and_only_for_this_machine(own_cache):
    from analyzer.device import processor_name, usable_cores

    assert load_calibration() is None
    mine = dataclasses.replace(made(), processor=processor_name(), cores=usable_cores())
    assert save_calibration(mine) == calibration_file() and load_calibration() == mine
    other = dataclasses.replace(mine, exchanges=(exchange("hotbench", 4, (4096, 1e-4, 0.0)),), work={})
    both = merge(other)
    assert both.has("gloo", 2) and both.has("hotbench", 4) and not both.has("hotbench", 2)
    save_calibration(made())
    assert load_calibration() is None
    calibration_file().write_text("{")
    assert load_calibration() is None


def test_a_calibration_describes_a_cluster_that_can_be_read_again():
    import yaml

    found = read_cluster(yaml.safe_load(made().as_cluster(4)), "mine.yaml")
    assert found.workers == 4 and found.links[0].source.startswith("measured: here")
    table = made().table()
    assert "a step takes 0.100 ms more than alone" in table and "beside computing: 0.50 of the speed" in table
    with pytest.raises(PlacementError, match="no all-reduce"):
        dataclasses.replace(made(), exchanges=()).as_cluster(2)
