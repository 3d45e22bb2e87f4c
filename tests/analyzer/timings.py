"""Synthetic timings of experiments: what a shared machine does to equal code, and to code of a known slow-down."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from analyzer.schedule import DEFAULT_SAMPLING
from analyzer.verdict import Blocks, is_settled, judge_time


@dataclass(frozen=True, slots=True)
class Machine:
    """How far its timings stray, each as a fraction of a step.

    build:   spread of a build's own bias, drawn for each block and variant.
    noise:   spread of a round, with the heavy tail of Student's t of `freedom`.
    bursts:  share of turns that a neighbour slows down, by up to twice.
    drift:   spread of the whole machine's random walk from round to round.
    stuck:   share of processes that are slow by half as long as they live.
    """

    build: float = 0.0
    noise: float = 0.0
    freedom: float = 3.0
    bursts: float = 0.0
    drift: float = 0.0
    stuck: float = 0.0

    def sitting(self, draw: np.random.Generator, blocks: int, slowdown: float = 1.0, rounds: int = 8) -> Blocks:
        """Return the timings of one sitting; the candidate takes `slowdown` times as long."""
        shape = blocks, rounds
        machine = np.exp(self.drift * np.cumsum(draw.normal(size=blocks * rounds))).reshape(shape)
        sides = []
        for factor in (1.0, slowdown, 1.0):
            bias = np.exp(draw.normal(0.0, self.build, (blocks, 1)))
            noise = np.exp(self.noise * draw.standard_t(self.freedom, shape))
            burst = 1.0 + (draw.random(shape) < self.bursts) * draw.random(shape)
            stuck = 1.5 if draw.random() < self.stuck else 1.0
            seconds = 0.02 * machine * bias * noise * burst * factor * stuck
            sides.append(tuple(tuple(row) for row in seconds.tolist()))
        return Blocks(*sides, sittings=(blocks,))


QUIET = Machine(build=0.004, noise=0.004, bursts=0.02, drift=0.001)
SHARED = Machine(build=0.01, noise=0.01, bursts=0.1, drift=0.003)
BUSY = Machine(build=0.01, noise=0.08, bursts=0.4, drift=0.02)
MOODY = Machine(build=0.01, noise=0.01, bursts=0.1, drift=0.003, stuck=0.25)


def word_on(machine: Machine, draw: np.random.Generator, slowdown: float = 1.0) -> str:
    """Return the verdict on time of a whole experiment, sampled as run_trial samples it."""
    sampling = DEFAULT_SAMPLING
    whole = machine.sitting(draw, sampling.most_blocks, slowdown)
    looks = range(sampling.blocks, sampling.most_blocks + 1)
    taken = next(count for count in looks if count == sampling.most_blocks or is_settled(first(whole, count)))
    found = first(whole, taken)
    for _ in range(sampling.confirmations):
        if judge_time(found).word == "inconclusive":
            break
        sitting = machine.sitting(draw, 2 * sampling.confirm_blocks, slowdown)
        half = first(sitting, sampling.confirm_blocks)
        found += half if judge_time(found + half).word != "inconclusive" else sitting
    return judge_time(found).word


def first(blocks: Blocks, count: int) -> Blocks:
    """Return the first `count` blocks of one sitting."""
    return Blocks(blocks.before[:count], blocks.after[:count], blocks.again[:count], (count,))
