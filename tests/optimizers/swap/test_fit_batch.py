"""The largest batch that fits is found in few looks, and confirmed by a run."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import hotbench
from optimizers.swap.batch_search import LOOKS, Need, search
from optimizers.swap.errors import SwapError
from optimizers.swap.fit_batch import resized
from tests.optimizers.swap.training_models import training


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


COSTS = st.integers(1, 10**6)


@given(COSTS, COSTS, st.sampled_from([1, 2]), st.integers(1, 300), st.integers(1, 300))
def test_the_largest_that_fits_is_found_where_needs_rise_by_a_line_or_a_square(fixed, cost, power, items, answer):
    def look(batch: int) -> Need:
        looks.append(batch)
        return Need(fixed + cost * batch**power, 3 * (fixed + cost * batch**power))

    looks: list[int] = []
    budget = fixed + cost * answer**power
    found = search(look, {items: look(items)}, budget)
    assert found.moved <= answer
    assert found.moved >= (answer if power == 1 else 0.9 * answer - 1)
    assert found.unmoved <= answer
    assert found.traced == tuple(sorted(set(looks)))
    assert len(looks) <= LOOKS + 1


def test_a_budget_too_small_for_one_item_finds_none():
    assert search(lambda batch: Need(10 * batch, 20 * batch), {64: Need(640, 1280)}, 5).moved == 0


def test_needs_that_do_not_rise_end_the_search():
    found = search(lambda batch: Need(7, 7), {3: Need(7, 7)}, 8)
    assert found.moved >= 1000


def test_the_largest_batch_is_confirmed_by_a_run_and_larger_than_without_swap() -> None:
    found = hotbench.largest_batch(training("attentive"), 4_000_000)
    assert found.report.peak_bytes_measured <= 4_000_000
    assert found.batch > found.unswapped.mid
    assert found.batch <= found.estimate.mid
    assert len(found.traced) >= 2


def test_the_longest_sequence_is_found_along_the_second_axis() -> None:
    workload = training("attentive")
    found = hotbench.largest_batch(workload, "60%", axis=1)
    assert found.report.peak_bytes_measured <= found.report.budget_bytes
    (x,), _ = resized(workload, found.batch, 1).batch(0)
    assert tuple(x.shape) == (5, found.batch, 36)


def test_what_cannot_be_made_longer_or_fit_is_refused_in_one_line() -> None:
    workload = training("recurrent")
    for axis in (3, -1):
        with pytest.raises(SwapError, match=f"has an axis {axis} to make longer; give another axis"):
            hotbench.largest_batch(workload, "60%", axis=axis)
    with pytest.raises(SwapError, match="not even a batch of 1 fits: .* the smallest that works is"):
        hotbench.largest_batch(workload, 1000)
    with pytest.raises(SwapError, match="does not train"):
        hotbench.largest_batch(replace(workload, loss=None, optimizer=None), "60%")


def test_a_batch_is_resized_by_its_first_axis() -> None:
    (x,), _ = resized(training("attentive"), 7).batch(0)
    (given_x,), _ = training("attentive").batch(0)
    assert x.shape[0] == 7
    assert torch.equal(x[5], given_x[0])
