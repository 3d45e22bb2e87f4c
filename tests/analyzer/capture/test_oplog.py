"""Starts and ends become ops: nesting and self times are those of the calls that were logged."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.capture.nativecode import NAME_SHIFT
from analyzer.capture.oplog import BrokenLogError, read_log

# A call is its children; what it takes itself is drawn apart.
CALLS = st.recursive(st.just([]), lambda calls: st.lists(calls, max_size=4), max_leaves=25)


class Logged:
    """Runs a tree of calls by a clock of its own and logs it as the machine code does."""

    def __init__(self, numbers):
        self.numbers = numbers
        self.entries, self.names, self.parents, self.own = [], [], [], []
        self.now = 10**12

    def call(self, children, parent=-1):
        place, address = len(self.names), 0x7F00_0000_0000 + 64 * len(self.names)
        lower = address & ((1 << NAME_SHIFT) - 1)
        name = 1 + place % 3
        self.names.append(name)
        self.parents.append(parent)
        self.own.append(0)
        self.entries.append((self.now, name << NAME_SHIFT | lower))
        for child in [*children, None]:
            spent = self.numbers.randrange(1, 1000)
            self.now += spent
            self.own[place] += spent
            if child is not None:
                self.call(child, place)
        self.entries.append((self.now, lower))

    def table(self):
        return np.array(self.entries, np.uint64).reshape(-1, 2)


@given(st.lists(CALLS, max_size=5), st.randoms(use_true_random=False))
def test_names_nesting_and_self_times_are_those_of_the_calls(calls, numbers):
    logged = Logged(numbers)
    for call in calls:
        logged.call(call)
        logged.now += 7
    ops = read_log(logged.table())
    assert ops.names.tolist() == logged.names
    assert ops.parents.tolist() == logged.parents
    assert ops.ticks.tolist() == logged.own


@given(CALLS, st.randoms(use_true_random=False), st.data())
def test_an_op_that_was_open_when_the_recording_stopped_has_no_time(call, numbers, data):
    logged = Logged(numbers)
    logged.call(call)
    table = logged.table()
    opening = table[:, 1] >> np.uint64(NAME_SHIFT) > 0
    stopped = data.draw(st.sampled_from(np.flatnonzero(opening).tolist()))
    # What starts later is not in the log, and neither is its end.
    addresses = table[:, 1] & np.uint64((1 << NAME_SHIFT) - 1)
    late = set(addresses[np.flatnonzero(opening)[np.flatnonzero(opening) > stopped]].tolist())
    kept = table[[address not in late for address in addresses.tolist()]]
    ops = read_log(kept, stopped)
    assert len(ops.ticks) == opening[: stopped + 1].sum()
    closed = {
        address for address, first in zip(addresses[:stopped].tolist(), opening[:stopped], strict=True) if not first
    }
    starts = addresses[: stopped + 1][opening[: stopped + 1]].tolist()
    for place, address in enumerate(starts):
        assert ops.ticks[place] == (logged.own[place] if address in closed else -1)


def entries(*rows):
    return np.array([(tick, name << NAME_SHIFT | address) for tick, name, address in rows], np.uint64)


@pytest.mark.parametrize(
    "rows",
    [
        [(1, 5, 100)],
        [(1, 0, 100), (2, 5, 100)],
        [(1, 5, 100), (2, 6, 200), (3, 0, 100), (4, 0, 200)],
        [(1, 5, 100), (2, 6, 200), (9, 0, 200), (5, 0, 100)],
    ],
    ids=["no end", "end first", "crossed", "clock back"],
)
def test_a_log_that_does_not_pair_is_refused(rows):
    with pytest.raises(BrokenLogError):
        read_log(entries(*rows))


def test_an_empty_log_has_no_ops():
    assert len(read_log(np.empty((0, 2), np.uint64)).names) == 0
