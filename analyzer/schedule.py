"""Who runs when: three variants take short turns, in rounds of rotating order, in blocks of fresh builds."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from analyzer.errors import HotbenchError
from analyzer.timing import SAMPLE_SECONDS, Sample

SIDES = 3
FRESH_SEEDS = (1, 2, 3)
LEAST_INPUTS = 3
TURN_SECONDS = 0.02
"""Short turns: what slows the machine down for longer than a round hits all variants of the round alike."""
LEAST_BLOCKS = 5
DISTURBED = 0.02
"""A turn is disturbed when the thread waited for a core for more than 2 % of it."""
ORDERS = tuple(itertools.permutations(range(SIDES)))


@dataclass(frozen=True, slots=True)
class Sampling:
    """How much is measured.

    blocks:        least number of blocks of fresh builds.
    most_blocks:   where sampling ends if the verdict is not clear before.
    confirmations: how many sittings in fresh processes a difference must show itself in as well.
    confirm_blocks: blocks of each of them; twice as many where it is not shown by then.
    block_seconds: time spent in the rounds of one block.
    limit_seconds: no further block is begun after this time, once there are `blocks` of them.
    timeout_seconds: a variant that gives no answer for so long counts as hung.
    seeds:         of the fresh inputs that outputs are compared on; for training, one step each.
    """

    blocks: int = 6
    most_blocks: int = 30
    confirmations: int = 3
    confirm_blocks: int = 3
    block_seconds: float = 0.5
    limit_seconds: float = 120.0
    timeout_seconds: float = 600.0
    seeds: tuple[int, ...] = FRESH_SEEDS

    def __post_init__(self) -> None:
        if self.blocks < LEAST_BLOCKS:
            raise HotbenchError(f"an experiment of {self.blocks} blocks is too short; take at least {LEAST_BLOCKS}")
        if self.most_blocks < self.blocks:
            raise HotbenchError(f"most_blocks {self.most_blocks} is less than blocks {self.blocks}; raise it")
        if len(self.seeds) < LEAST_INPUTS or 0 in self.seeds:
            raise HotbenchError(f"seeds {self.seeds} are no {LEAST_INPUTS} fresh ones; give others than 0")


DEFAULT_SAMPLING = Sampling()


class Side(Protocol):
    """One variant, as the schedule drives it."""

    def turn(self, count: int, repeats: int) -> Sequence[Sample]:
        """Return `count` samples of `repeats` steps each."""
        ...


@dataclass(frozen=True, slots=True)
class Rhythm:
    """How long a turn and a block are: samples a turn, steps a sample, rounds a block."""

    count: int
    repeats: int
    rounds: int


def rhythm_of(step_seconds: float, block_seconds: float) -> Rhythm:
    """Return the rhythm for steps of `step_seconds`: short steps are repeated until a sample can be timed."""
    repeats = max(1, math.ceil(SAMPLE_SECONDS / step_seconds))
    count = max(1, round(TURN_SECONDS / (step_seconds * repeats)))
    rounds = max(1, round(block_seconds / (SIDES * step_seconds * repeats * count)))
    return Rhythm(count, repeats, rounds)


@dataclass(frozen=True, slots=True)
class Round:
    """Seconds a step of each side, timed one after the other; the same of CPU time; whether a neighbour cut in."""

    seconds: tuple[float, ...]
    cpu_seconds: tuple[float, ...]
    disturbed: bool


@dataclass(frozen=True, slots=True)
class Block:
    """The rounds of one block of fresh builds, and how many were taken again because a neighbour cut in."""

    rounds: tuple[Round, ...]
    repeated: int = 0


def play_block(sides: Sequence[Side], rhythm: Rhythm, block: int) -> Block:
    """Return the rounds of one block, its sides built and warmed up already.

    A disturbed round is taken again, up to half as many times as there are rounds; after that the disturbed
    ones count as well, since the machine is never quiet.
    """
    clean: list[Round] = []
    disturbed: list[Round] = []
    for turn in range(rhythm.rounds + rhythm.rounds // 2):
        found = _play_round(sides, rhythm, ORDERS[(block + turn) % len(ORDERS)])
        (disturbed if found.disturbed else clean).append(found)
        if len(clean) == rhythm.rounds:
            return Block(tuple(clean), len(disturbed))
    # A handful of clean rounds says less than all of them, disturbed or not.
    if 2 * len(clean) < rhythm.rounds:
        return Block(tuple(clean + disturbed), 0)
    return Block(tuple(clean), len(disturbed))


def _play_round(sides: Sequence[Side], rhythm: Rhythm, order: Sequence[int]) -> Round:
    turns = {side: sides[side].turn(rhythm.count, rhythm.repeats) for side in order}
    return Round(
        tuple(statistics.median(sample.undisturbed for sample in turns[side]) for side in range(SIDES)),
        tuple(statistics.median(sample.cpu_seconds for sample in turns[side]) for side in range(SIDES)),
        any(is_disturbed(samples) for samples in turns.values()),
    )


def is_disturbed(samples: Sequence[Sample]) -> bool:
    """Return whether another process had the core for more than 2 % of the turn; False where that is not known."""
    waited = [sample.waited for sample in samples if sample.waited is not None]
    return bool(waited) and sum(waited) > DISTURBED * sum(sample.seconds for sample in samples)
