"""Where to cut a model into stages, so that the slowest stage is as quick as can be."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from optimizers.placement.cuts import Cut
from optimizers.placement.errors import PlacementError
from optimizers.placement.plans import StepProfile


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of a pipeline. handed_bytes: what it hands to the next one for a worker's batch; 0 for the last."""

    forward_seconds: float
    backward_seconds: float
    parameter_bytes: int
    handed_bytes: int
    scope: str


def make_stages(profile: StepProfile, count: int, bytes_per_second: float) -> tuple[Stage, ...]:
    """Return the model in `count` stages, cut where the slowest of them takes least, hand-over included.

    Raises PlacementError where the model has too few places to cut.
    """
    cuts = [cut for cut in profile.cuts if cut.crossing and not any(item.dynamic for item in cut.crossing)]
    if count - 1 > len(cuts):
        raise PlacementError(
            f"{profile.name!r} can be cut at {len(cuts)} places; choose at most {len(cuts) + 1} stages, not {count}"
        )
    ends = [*cuts, None]
    best: list[list[tuple[float, int]]] = [[(_cost(profile, None, end, bytes_per_second), -1) for end in ends]]
    for _ in range(count - 1):
        row = []
        for place, end in enumerate(ends):
            row.append(
                min(
                    (
                        (max(best[-1][left][0], _cost(profile, ends[left], end, bytes_per_second)), left)
                        for left in range(place)
                    ),
                    default=(float("inf"), -1),
                )
            )
        best.append(row)
    chosen = [len(ends) - 1]
    for row in reversed(best[1:]):
        chosen.append(row[chosen[-1]][1])
    borders = [None, *(ends[place] for place in reversed(chosen))]
    return tuple(_stage(profile, left, right) for left, right in pairwise(borders))


def _stage(profile: StepProfile, left: Cut | None, right: Cut | None) -> Stage:
    forward = (right.forward_seconds if right else profile.forward_seconds) - (left.forward_seconds if left else 0.0)
    backward = (right.backward_seconds if right else profile.backward_seconds) - (left.backward_seconds if left else 0)
    whole = profile.parameter_bytes
    owned = (right.parameter_bytes if right else whole) - (left.parameter_bytes if left else 0)
    if left is not None:
        owned += left.shared_bytes
    return Stage(
        max(forward, 0.0), max(backward, 0.0), max(owned, 0), right.bytes if right else 0, right.scope if right else ""
    )


def _cost(profile: StepProfile, left: Cut | None, right: Cut | None, bytes_per_second: float) -> float:
    stage = _stage(profile, left, right)
    return stage.forward_seconds + stage.backward_seconds + 2 * stage.handed_bytes / bytes_per_second
