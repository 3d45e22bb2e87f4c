from __future__ import annotations

from dataclasses import dataclass, field

from analyzer.timing import DeviceClock, ProcessClock, Sample, lead_in, settle, take_samples


@dataclass
class FakeClock:
    """A clock that only the work under test moves."""

    now: float = 0.0
    spent: float = 0.0
    lost: float | None = 0.0
    steps: list[float] = field(default_factory=list)

    def wall(self) -> float:
        return self.now

    def cpu(self) -> float:
        return self.spent

    def waited(self) -> float | None:
        return self.lost

    def step(self) -> None:
        """A step of 0.5 s, a quarter of it waiting for a core."""
        self.steps.append(self.now)
        self.now += 0.5
        self.spent += 0.375
        if self.lost is not None:
            self.lost += 0.125


def test_samples_are_in_figures_a_step() -> None:
    clock = FakeClock()
    assert take_samples(clock.step, clock, count=3, repeats=4) == (Sample(0.5, 0.375, 0.125),) * 3
    assert len(clock.steps) == 12


def test_waiting_for_a_core_is_no_part_of_the_step() -> None:
    assert Sample(0.5, 0.375, 0.125).undisturbed == 0.375


def test_where_waiting_is_not_known_the_wall_clock_counts() -> None:
    clock = FakeClock(lost=None)
    (sample,) = take_samples(clock.step, clock, count=1, repeats=2)
    assert (sample.waited, sample.undisturbed) == (None, 0.5)


def test_a_long_step_needs_no_lead_in() -> None:
    clock = FakeClock()
    lead_in(clock.step, clock, step_seconds=0.5)
    assert clock.steps == []


def test_a_short_step_is_led_in_at_least_once() -> None:
    clock = FakeClock()
    lead_in(clock.step, clock, step_seconds=1e-4)
    assert len(clock.steps) == 1


def test_settling_runs_both_the_least_steps_and_the_time() -> None:
    few, long = FakeClock(), FakeClock()
    assert settle(few.step, few, seconds=0.0, least=3) == 0.5
    settle(long.step, long, seconds=2.6, least=1)
    assert (len(few.steps), len(long.steps)) == (3, 6)


def test_the_process_clock_never_runs_backwards() -> None:
    clock = ProcessClock()
    before = clock.wall(), clock.cpu(), clock.waited() or 0.0
    sum(range(10_000))
    after = clock.wall(), clock.cpu(), clock.waited() or 0.0
    assert all(later >= earlier for earlier, later in zip(before, after, strict=True))


class FakeEvent:
    """An event on a device that takes 250 ms between one event and the next."""

    passed = 0

    def record(self) -> None:
        FakeEvent.passed += 1
        self.place = FakeEvent.passed

    def synchronize(self) -> None:
        assert self.place

    def elapsed_time(self, end_event: FakeEvent) -> float:
        return 250.0 * (end_event.place - self.place)


def test_the_device_clock_adds_up_the_time_between_events() -> None:
    clock = DeviceClock(FakeEvent)
    assert [clock.wall(), clock.wall(), clock.wall()] == [0.25, 0.5, 0.75]
    assert clock.waited() is None
