from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.errors import HotbenchError
from analyzer.schedule import Rhythm, Sampling, is_disturbed, play_block, rhythm_of
from analyzer.timing import Sample


class FakeSide:
    """A side whose turns take a known time; turns at the places in `cut` are cut into by a neighbour."""

    def __init__(self, name: int, seconds: float, order: list[int], cut: frozenset[int] = frozenset()) -> None:
        self.name, self.seconds, self.order, self.cut, self.turns = name, seconds, order, cut, 0

    def turn(self, count: int, repeats: int) -> Sequence[Sample]:
        self.order.append(self.name)
        waited = self.seconds if self.turns in self.cut else 0.0
        self.turns += 1
        return [Sample(self.seconds + waited, self.seconds, waited)] * count


def sides(order: list[int], cut: frozenset[int] = frozenset()) -> list[FakeSide]:
    return [FakeSide(0, 1.0, order), FakeSide(1, 2.0, order, cut), FakeSide(2, 1.0, order)]


def test_every_variant_takes_every_place_equally_often() -> None:
    order: list[int] = []
    play_block(sides(order), Rhythm(count=1, repeats=1, rounds=6), block=4)
    places = Counter((turn % 3, name) for turn, name in enumerate(order))
    assert set(places.values()) == {2}


def test_a_round_holds_one_figure_a_side() -> None:
    block = play_block(sides([]), Rhythm(count=3, repeats=2, rounds=5), block=0)
    assert [item.seconds for item in block.rounds] == [(1.0, 2.0, 1.0)] * 5
    assert block.repeated == 0


def test_a_disturbed_round_is_taken_again() -> None:
    block = play_block(sides([], frozenset({1, 2})), Rhythm(count=1, repeats=1, rounds=6), block=0)
    assert (len(block.rounds), block.repeated) == (6, 2)
    assert not any(item.disturbed for item in block.rounds)


def test_on_a_machine_that_is_never_quiet_disturbed_rounds_count_without_their_waiting() -> None:
    block = play_block(sides([], frozenset(range(99))), Rhythm(count=1, repeats=1, rounds=6), block=0)
    assert all(item.disturbed and item.seconds == (1.0, 2.0, 1.0) for item in block.rounds)
    assert (len(block.rounds), block.repeated) == (9, 0)


def test_a_turn_is_disturbed_from_two_percent_on() -> None:
    assert not is_disturbed([Sample(1.0, 1.0, 0.015)])
    assert is_disturbed([Sample(1.0, 1.0, 0.025)])
    assert not is_disturbed([Sample(1.0, 1.0, None)])


@given(st.floats(1e-6, 30.0))
def test_short_steps_are_repeated_and_long_ones_are_not(step_seconds: float) -> None:
    rhythm = rhythm_of(step_seconds, 0.5)
    assert rhythm.repeats * step_seconds >= 0.004
    assert rhythm.repeats == 1 or step_seconds < 0.004
    assert rhythm.count >= 1 and rhythm.rounds >= 1


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"blocks": 4}, "4 blocks is too short; take at least 5"),
        ({"blocks": 9, "most_blocks": 8}, "most_blocks 8 is less than blocks 9"),
        ({"seeds": (1, 2)}, "are no 3 fresh ones"),
        ({"seeds": (0, 1, 2)}, "are no 3 fresh ones"),
    ],
)
def test_too_little_sampling_is_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(HotbenchError, match=message):
        Sampling(**fields)  # type: ignore[arg-type]
