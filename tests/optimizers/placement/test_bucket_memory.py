"""Buckets averaged over workers: every form, number of workers, dtype and way to the peers gives the mean."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from optimizers.placement.bucket_memory import BucketMemory
from optimizers.placement.errors import PlacementError
from optimizers.placement.shares import ALL_REDUCE, PARAMETER_SERVER, shares
from optimizers.placement.transport import Transport, TransportError
from optimizers.placement.transport.memory import SharedMemory
from tests.optimizers.placement.transport import worlds


@given(st.sampled_from([ALL_REDUCE, PARAMETER_SERVER]), st.integers(0, 10_000), st.integers(1, 40))
def test_shares_are_the_bucket_in_order_and_none_starts_amid_a_line(form, count, world_size):
    parts = shares(form, count, world_size)
    assert len(parts) == world_size and parts[0].begin == 0 and parts[-1].end == count
    assert all(before.end == after.begin for before, after in pairwise(parts))
    assert all(part.begin % 16 == 0 or part.begin == count for part in parts)


def test_a_form_that_there_is_not_is_refused_by_its_name():
    with pytest.raises(PlacementError, match="form 'ring' does not exist; give one of all-reduce, parameter-server"):
        shares("ring", 5, 2)


def _averaged(values: list[list[torch.Tensor]], form: str, **options) -> list[list[torch.Tensor]]:
    """Return what each worker has after each step; values[step][rank]."""

    def body(transport: Transport) -> list[torch.Tensor]:
        bucket = torch.empty_like(values[0][transport.rank])
        memory, seen = BucketMemory(transport, bucket, form), []
        for step in values:
            bucket.copy_(step[transport.rank])
            memory.average()
            seen.append(bucket.clone())
        memory.close()
        return seen

    return worlds.run(len(values[0]), body, **options)


def _check(values, results):
    """Hold the results against float64, and each worker's against the others'."""
    for number, step in enumerate(values):
        for result in results[1:]:
            assert torch.equal(result[number], results[0][number])
        exact = torch.stack([value.double() for value in step]).mean(0)
        bound = 2 * len(step) * torch.finfo(step[0].dtype).eps * torch.stack([v.double().abs() for v in step]).mean(0)
        assert ((results[0][number].double() - exact).abs() <= bound).all()


@settings(deadline=None, max_examples=8)
@given(
    st.integers(2, 5),
    st.sampled_from([1, 15, 16, 17, 1000, 4097]),
    st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.float16]),
    st.sampled_from([ALL_REDUCE, PARAMETER_SERVER]),
)
def test_the_mean_is_that_of_float64_within_its_bound_and_the_same_everywhere(world_size, count, dtype, form):
    values = [[torch.randn(count + 3).to(dtype)[3:].clone() for _ in range(world_size)] for _ in range(3)]
    _check(values, _averaged(values, form))


@pytest.mark.parametrize("form", [ALL_REDUCE, PARAMETER_SERVER])
def test_over_a_network_the_mean_is_bit_for_bit_that_of_shared_memory(form):
    values = [[torch.randn(100_003) for _ in range(3)] for _ in range(3)]
    near, far = _averaged(values, form), _averaged(values, form, **worlds.tcp())
    _check(values, far)
    assert all(torch.equal(a, b) for one, other in zip(near, far, strict=True) for a, b in zip(one, other, strict=True))


def test_with_two_workers_the_mean_is_exactly_that_of_halves_added():
    values = [[(torch.rand(5001) - 0.1) * 3e38 for _ in range(2)]]  # a sum of the two would overflow
    result = _averaged(values, ALL_REDUCE)
    assert torch.equal(result[0][0], values[0][0] / 2 + values[0][1] / 2) and result[0][0].isfinite().all()


def test_workers_whose_buckets_differ_do_not_average_them():
    def body(transport: Transport) -> None:
        BucketMemory(transport, torch.zeros(8 + transport.rank), ALL_REDUCE)

    errors = worlds.outcomes(2, body, timeout_seconds=3.0)
    assert any("rank" in str(error) and "bucket" in str(error) for error in errors), errors


def test_an_empty_bucket_is_refused_in_words():
    with pytest.raises(TransportError, match="an empty tensor has no memory to share"):
        SharedMemory.adopt(torch.zeros(0))
