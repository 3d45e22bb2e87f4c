"""How a bucket is shared out: which worker sums which part of it."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from optimizers.placement.errors import PlacementError

ALL_REDUCE, PARAMETER_SERVER = "all-reduce", "parameter-server"
FORMS = (ALL_REDUCE, PARAMETER_SERVER)
SERVER = 0
"""The rank that sums everything in the parameter server's form."""
_GRAIN = 16
"""Elements: shares begin on lines of their own, so that no two workers write to one."""


@dataclass(frozen=True, slots=True)
class Share:
    """The elements from `begin` to `end` of a bucket."""

    begin: int
    end: int

    @property
    def count(self) -> int:
        """Return how many elements it has."""
        return self.end - self.begin


def shares(form: str, element_count: int, world_size: int) -> tuple[Share, ...]:
    """Return the share of each rank; some may be empty; together they are the bucket, in order.

    Raises PlacementError for a form that there is not.
    """
    if form == PARAMETER_SERVER:
        return tuple(Share(0 if rank == SERVER else element_count, element_count) for rank in range(world_size))
    if form != ALL_REDUCE:
        raise PlacementError(f"form {form!r} does not exist; give one of {', '.join(FORMS)}")
    grains = -(-element_count // _GRAIN)
    bounds = [min(element_count, grains * rank // world_size * _GRAIN) for rank in range(world_size)] + [element_count]
    return tuple(Share(begin, end) for begin, end in itertools.pairwise(bounds))
