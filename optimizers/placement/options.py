"""What a user can set of a placement."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from optimizers.placement.errors import PlacementError
from optimizers.placement.this_machine import NAME as THIS_MACHINE
from optimizers.plan import Options

Form = Literal["all-reduce", "parameter-server"]
MOST_WORKERS = 1 << 16
MOST_STEPS = 10_000
MOST_MEGABYTES = 4096.0


@dataclass(frozen=True)
class PlacementOptions(Options):
    """How many workers train, where, and what ours is measured against."""

    world_size: int = field(default=2, metadata={"help": "workers that train together, each with a batch of its own"})
    cluster: str = field(
        default=THIS_MACHINE, metadata={"help": "where: this machine, a known cluster, or the path of a YAML file"}
    )
    baseline: Literal["gloo", "grpc", "grpc-flat"] = field(
        default="gloo", metadata={"help": "what the verdict compares with, at the same world size"}
    )
    form: Form = field(
        default="all-reduce",
        metadata={"help": "how ours averages: every worker its share of the gradients, or rank 0 all of them"},
    )
    bucket_megabytes: float | None = field(
        default=None, metadata={"help": "largest bucket of gradients, in MiB; none takes what is predicted quickest"}
    )
    steps: int = field(default=30, metadata={"help": "steps that are measured of each backend for the split"})

    def __post_init__(self) -> None:
        if not 1 <= self.world_size <= MOST_WORKERS:
            raise PlacementError(f"placement.world_size={self.world_size} is out of range; give 2 to {MOST_WORKERS}")
        if self.form not in get_args(Form):
            raise PlacementError(f"placement.form={self.form} is unknown; give one of {', '.join(get_args(Form))}")
        if self.bucket_megabytes is not None and not 0.0 < self.bucket_megabytes <= MOST_MEGABYTES:
            raise PlacementError(
                f"placement.bucket_megabytes={self.bucket_megabytes} is out of range; give up to {MOST_MEGABYTES:g}"
            )
        if not 5 <= self.steps <= MOST_STEPS:
            raise PlacementError(f"placement.steps={self.steps} is out of range; give 5 to {MOST_STEPS}")

    def as_dict(self) -> dict[str, Any]:
        """Return the options as plain JSON values."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    @property
    def is_here(self) -> bool:
        """Return whether the cluster is this machine."""
        return self.cluster.strip() in ("", THIS_MACHINE)

    @property
    def cap_bytes(self) -> int | None:
        """Return the largest bucket in bytes; None where it is to be found."""
        return None if self.bucket_megabytes is None else max(int(self.bucket_megabytes * (1 << 20)), 1)
