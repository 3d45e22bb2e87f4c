"""What calibration makes of the steps that it measures: found again where the steps are made by hand."""

import dataclasses

import pytest

from analyzer.workload import Stepper
from optimizers.placement import calibrate as module
from optimizers.placement.calibrate import MeasuredPoint, calibrate, measure_beside, measure_rates
from optimizers.placement.calibration_workload import BURDENS, beside
from optimizers.placement.costs import Point, Rates
from optimizers.placement.launch import MeasuredSteps
from optimizers.placement.step_times import StepTimes

CORES, PACE, TAKEN = 2, 0.4, 1.5
ALONE_SECONDS, COMPUTING_SECONDS, COPY_SECONDS = 0.020, 0.012, 0.003
SIZE = 24 << 20
RATES = Rates(0.8, 0.5)


def beside_step(size: int, burden: int) -> StepTimes:
    """Return a step of the workload `beside` on cores that a large exchange takes TAKEN of while it runs at PACE."""
    small = 1e-4
    if size < SIZE:
        return StepTimes(COMPUTING_SECONDS + small, COMPUTING_SECONDS, small, 0.0)
    rate = (RATES.processor, RATES.memory)[burden]
    # Of CORES * rate, computing loses TAKEN * PACE while the exchange is under way, which outlasts it.
    computing = COMPUTING_SECONDS * CORES * rate / (CORES * rate - TAKEN * PACE)
    left = ALONE_SECONDS - PACE * computing
    assert left > 0
    compute = computing + COPY_SECONDS
    return StepTimes(compute + left + small, compute, left + small, computing)


class FakeRanks:
    """Ranks whose steps are made by hand."""

    process_ids = ()

    def __init__(self, launch):
        self.launch = launch

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def steps(self, count, seeds=None):
        """Return `count` steps of each rank; in `burdens`, rank 1 is a tenth slower than rank 0."""
        work = self.launch.entry.partition(":")[2]
        ranks = [[self.step(work, rank, seed) for seed in (seeds or [0] * count)] for rank in range(2)]
        return MeasuredSteps(self.launch.backend, "none", tuple(map(tuple, ranks)), ((0.0,) * count,) * 2)

    def step(self, work, rank, seed):
        argument = self.launch.argument
        if work == "beside":
            return beside_step(argument["exchanged"], seed)
        if work == "burdens":
            burden, alone = divmod(seed, 2)
            seconds = 0.01 if alone else 0.01 / (RATES.processor, RATES.memory)[burden] * (1.1 if rank else 1.0)
            return StepTimes(seconds, seconds, 0.0, 0.0)
        size, tensors = argument["bytes"], argument["tensors"]
        compute = module._alone_seconds(argument) + 1e-3 + 2e-5 * (tensors - 1) + size * COPY_SECONDS / SIZE
        exposed = 1e-4 + size * 1e-9
        return StepTimes(compute + exposed, compute, exposed, 0.0)


@pytest.fixture
def by_hand(monkeypatch):
    monkeypatch.setattr(module, "Ranks", FakeRanks)
    monkeypatch.setattr(module, "usable_cores", lambda: CORES)
    monkeypatch.setattr(module, "_alone_seconds", lambda argument: 1e-4)


def test_pace_and_cores_of_an_exchange_beside_computing_are_found_again(by_hand):
    least = MeasuredPoint(Point(4096, 1e-4, 0.0), 1e-3, 0.0)
    most = MeasuredPoint(Point(SIZE, ALONE_SECONDS, 0.0), 1e-3 + COPY_SECONDS, 0.0)
    found = measure_beside("gloo", 2, 1, [least, most], RATES)
    assert found is not None
    assert (found.pace, found.processor, found.memory) == pytest.approx((PACE, TAKEN, TAKEN), rel=1e-6)
    small = dataclasses.replace(most, point=Point(1 << 20, 1e-3, 0.0))
    assert measure_beside("gloo", 2, 1, [least, small], RATES) is None


def test_work_by_the_step_the_gradient_and_the_byte_is_found_again(by_hand):
    found = calibrate(2, ["gloo"], sizes=(4096, SIZE), rates=RATES)
    work = found.work["gloo"]
    assert work.seconds == pytest.approx(1e-3, rel=1e-2) and work.tensor_seconds == pytest.approx(2e-5)
    assert work.byte_seconds == pytest.approx(COPY_SECONDS / SIZE)
    assert found.exchanges[0].beside is not None and found.exchanges[0].beside.memory > 0
    # Two ranks on four cores leave two to the exchange: nothing of it is measured beside computing.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "usable_cores", lambda: 4)
        assert calibrate(2, ["gloo"], sizes=(4096, SIZE), rates=RATES).exchanges[0].beside is None


def test_rates_and_the_wait_for_the_slower_of_two_are_found_again(by_hand):
    found = measure_rates("gloo", 1)
    assert (found.processor, found.memory) == pytest.approx((RATES.processor, RATES.memory))
    assert found.slowest == pytest.approx(1.1 / 1.05 - 1.0)


@pytest.mark.parametrize("burden", range(len(BURDENS)))
def test_backward_makes_the_large_gradient_before_it_computes_and_the_small_one_after(burden):
    workload = beside({"exchanged": 4 * 1001, "width": 17, "repeats": 3, "bytes": 101})
    order = []
    carry = workload.model.load.carry
    workload.model.load.carry = lambda which: order.append(which) or carry(which)
    for name, parameter in workload.model.named_parameters():
        parameter.register_post_accumulate_grad_hook(lambda _, name=name: order.append(name))
    args, _ = workload.batch(burden)
    assert int(args[0]) == burden
    workload.model(*args).backward()
    assert order == ["first", burden, "last"]
    assert workload.model.first.grad.tolist() == [1.0] * 1001
    Stepper(workload).step()
