"""The bucket plan: which gradients travel together, in the order in which backward makes them ready."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from analyzer.errors import RecordError
from analyzer.record import from_plain, to_plain
from optimizers.placement.errors import PlacementError

FORMAT_VERSION = 1
FORMS = ("all-reduce", "parameter-server")
DDP_CAP_BYTES = 25 << 20
DDP_FIRST_BYTES = 1 << 20
"""What DDP takes where it is told nothing: the first bucket is small, so that the first exchange begins early."""


@dataclass(frozen=True, slots=True)
class Gradient:
    """One parameter's gradient: its name, and when backward has made it, in seconds since backward began."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    bytes: int
    ready_seconds: float


@dataclass(frozen=True, slots=True)
class Bucket:
    """Gradients that travel as one message.

    parameters: names in the order of the bucket's memory, which is that in which they are ready.
    offsets_bytes: where each lies in the bucket.
    ready_seconds: when the last of them is there, since backward began.
    """

    index: int
    parameters: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    offsets_bytes: tuple[int, ...]
    bytes: int
    dtype: str
    ready_seconds: float


@dataclass(frozen=True, slots=True)
class BucketPlan:
    """Every bucket of a step, in the order in which they are ready.

    cap_bytes: largest bucket, unless a single gradient is larger.    form: one of FORMS.
    arena_bytes: memory that a worker registers for them.
    """

    buckets: tuple[Bucket, ...]
    cap_bytes: int
    form: str
    world_size: int
    arena_bytes: int
    format_version: int = FORMAT_VERSION

    @property
    def gradient_bytes(self) -> int:
        """Return the bytes of all gradients."""
        return sum(bucket.bytes for bucket in self.buckets)

    def encode(self) -> bytes:
        """Return the plan as JSON."""
        return (json.dumps(to_plain(self), indent=1, allow_nan=False) + "\n").encode()

    def renamed(self, names: Mapping[str, str]) -> BucketPlan:
        """Return the plan with parameters called as `names` says; one that is not in it keeps its name."""
        buckets = tuple(
            replace(bucket, parameters=tuple(names.get(name, name) for name in bucket.parameters))
            for bucket in self.buckets
        )
        return replace(self, buckets=buckets)


def decode_buckets(content: bytes | str) -> BucketPlan:
    """Return the plan that `encode` wrote. Raises RecordError where it is none, or of a newer version."""
    try:
        plan = from_plain(BucketPlan, json.loads(content))
    except ValueError as error:
        raise RecordError(f"not a saved bucket plan: {error}; optimize the run again") from error
    if plan.format_version > FORMAT_VERSION:
        raise RecordError(
            f"the bucket plan has format {plan.format_version}, newer than {FORMAT_VERSION}; upgrade Hotbench"
        )
    return plan


def make_buckets(
    gradients: Sequence[Gradient],
    cap_bytes: int,
    *,
    world_size: int,
    form: str = "all-reduce",
    first_bytes: int | None = None,
    arena_bytes: int = 0,
) -> BucketPlan:
    """Return the gradients in buckets as DDP fills them: in the order ready, closed once the cap is reached.

    first_bytes: limit of the first bucket; by default the cap, as in DDP where a cap is given. Gradients of different
    dtypes never share a bucket. Raises PlacementError for no gradient, a cap below 1 byte, a
    world of fewer than 2 workers or an unknown form.
    """
    if form not in FORMS:
        raise PlacementError(f"form {form!r} is not known; choose one of {', '.join(FORMS)}")
    if cap_bytes < 1:
        raise PlacementError(f"a bucket of {cap_bytes} bytes holds nothing; give at least 1")
    if world_size < 2:
        raise PlacementError(f"a world of {world_size} exchanges nothing; give 2 workers or more")
    if not gradients:
        raise PlacementError("the step makes no gradients; capture a training step")
    order = sorted(gradients, key=lambda item: item.ready_seconds)
    groups = list(_groups(order, cap_bytes, cap_bytes if first_bytes is None else first_bytes))
    groups.sort(key=lambda group: group[-1].ready_seconds)
    buckets = tuple(_bucket(index, group) for index, group in enumerate(groups))
    return BucketPlan(buckets, cap_bytes, form, world_size, arena_bytes)


def _groups(gradients: Iterable[Gradient], cap_bytes: int, first_bytes: int) -> Iterator[list[Gradient]]:
    """Yield the gradients of each bucket: a bucket is closed by the gradient that reaches its limit."""
    open_groups: dict[str, list[Gradient]] = {}
    closed: set[str] = set()
    for gradient in gradients:
        group = open_groups.setdefault(gradient.dtype, [])
        group.append(gradient)
        limit = cap_bytes if gradient.dtype in closed else first_bytes
        if sum(item.bytes for item in group) >= limit:
            closed.add(gradient.dtype)
            yield open_groups.pop(gradient.dtype)
    yield from open_groups.values()


def _bucket(index: int, group: Sequence[Gradient]) -> Bucket:
    offsets, total = [], 0
    for gradient in group:
        offsets.append(total)
        total += gradient.bytes
    return Bucket(
        index,
        tuple(gradient.name for gradient in group),
        tuple(gradient.shape for gradient in group),
        tuple(offsets),
        total,
        group[0].dtype,
        group[-1].ready_seconds,
    )
