"""Reads the recorder's buffer: starts and ends, one after the other, become ops with their nesting and self time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analyzer.capture.nativecode import NAME_SHIFT


class BrokenLogError(Exception):
    """A log whose starts and ends don't pair, so that no time of it can be believed."""


@dataclass(frozen=True)
class OpLog:
    """The ops of one log in order of start.

    names:   offset of each op's name.
    parents: position of the op around it, -1: none.
    ticks:   self time; -1 where it is not known, since ops within were no longer recorded.
    """

    names: NDArray[np.int64]
    parents: NDArray[np.int64]
    ticks: NDArray[np.int64]


def read_log(entries: NDArray[np.uint64], stopped: int = -1) -> OpLog:
    """Return the ops of `entries` [count, 2] of ticks and tags.

    stopped: the entry of the last start that was recorded before the step went on without; -1: none.
    Raises BrokenLogError where an end does not belong to the op that was opened last.
    """
    starts, ends = _pair(entries[:, 1])
    ticks = entries[:, 0].astype(np.int64)
    durations = ticks[ends] - ticks[starts]
    parents = _parents(starts, ends)
    inner = np.zeros(len(starts), np.int64)
    nested = parents >= 0
    np.add.at(inner, parents[nested], durations[nested])
    own = durations - inner
    if (own < 0).any():
        raise BrokenLogError("an op took less time than those that it called")
    if stopped >= 0:
        own[ends > stopped] = -1
    return OpLog((entries[starts, 1] >> np.uint64(NAME_SHIFT)).astype(np.int64), parents, own)


def _pair(tags: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the entries of each op's start and end, in order of start."""
    opening = (tags >> np.uint64(NAME_SHIFT)) > 0
    depth = np.cumsum(np.where(opening, 1, -1))
    if len(depth) and (depth[-1] != 0 or depth.min() < 0):
        raise BrokenLogError("the starts and ends of ops differ in number")
    # An op's start and its end are neighbours among the entries of their level.
    order = np.argsort(np.where(opening, depth, depth + 1), kind="stable")
    starts, ends = order[0::2], order[1::2]
    addresses = tags & np.uint64((1 << NAME_SHIFT) - 1)
    if not opening[starts].all() or opening[ends].any() or (addresses[starts] != addresses[ends]).any():
        raise BrokenLogError("ops end in another order than they began")
    by_start = np.argsort(starts)
    return starts[by_start], ends[by_start]


def _parents(starts: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return for each op, by order of start, the position of the innermost op around it."""
    count = len(starts)
    # Before an op starts, `position` ops have started; those that ended by then are fewer by the op's depth.
    depths = np.arange(count) - np.searchsorted(np.sort(ends), starts)
    parents = np.full(count, -1, np.int64)
    for depth in range(1, int(depths.max()) + 1 if count else 0):
        above, here = np.flatnonzero(depths == depth - 1), np.flatnonzero(depths == depth)
        parents[here] = above[np.searchsorted(above, here) - 1]
    return parents
