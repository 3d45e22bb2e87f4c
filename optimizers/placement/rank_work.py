"""What ranks do that a process alone does not: work of their own in each step, and what exchanges cost computing."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist


@dataclass(frozen=True, slots=True)
class StepWork:
    """What a step takes more on a rank than alone, its exchange aside, with a core to itself while the others are busy.

    seconds: each step (hooks, waking up).    tensor_seconds: each gradient.
    byte_seconds: each byte of the gradients, which DistributedDataParallel copies into its bucket.
    """

    seconds: float = 0.0
    tensor_seconds: float = 0.0
    byte_seconds: float = 0.0

    @property
    def in_words(self) -> str:
        """Return it in milliseconds."""
        each = f"{self.tensor_seconds * 1e3:.3f} ms each gradient, {self.byte_seconds * 1e9:.3f} ms each MB"
        return f"a step takes {self.seconds * 1e3:.3f} ms more than alone, {each}"


@dataclass(frozen=True, slots=True)
class Beside:
    """An exchange while every core computes, against the same one with the machine to itself.

    pace: its speed, 1 where computing is not in its way: its threads wait for a core.
    processor: cores that it takes from arithmetic while it runs at its full speed.
    memory:    the same of bytes from memory, in what one core moves alone.
    """

    pace: float
    processor: float
    memory: float

    @property
    def in_words(self) -> str:
        """Return it as a share and as cores."""
        taken = f"takes {self.processor:.2f} cores from arithmetic, {self.memory:.2f} from bytes"
        return f"beside computing: {self.pace:.2f} of the speed, {taken}"


def beside_pace(alone_seconds: float, left_seconds: float, beside_seconds: float) -> float:
    """Return the speed of an exchange beside computing, against alone; from 0.05 to 1.

    alone_seconds: of the exchange alone.    left_seconds: what was left of it when computing was over.
    beside_seconds: how long it ran while there was computing.
    """
    if beside_seconds <= 0:
        return 1.0
    return min(max((alone_seconds - left_seconds) / beside_seconds, 0.05), 1.0)


def cores_taken(cores: float, rate: float, longer_seconds: float, done_seconds: float) -> float:
    """Return the cores that an exchange takes at its full speed, from how much longer computing took beside it.

    cores: that compute.    rate: what each gives while all are busy, of what one gives alone.
    done_seconds: what the part of the exchange that ran meanwhile takes alone.
    """
    return cores * rate * max(longer_seconds, 0.0) / done_seconds if done_seconds > 0 else 0.0


def expected_slowest(workers: int) -> float:
    """Return how many standard deviations the slowest of so many alike is above their mean.

    Normally distributed. Source of (n - 3/8) / (n + 1/4): Blom 1958, Statistical Estimates and Transformed Variables.
    """
    return NormalDist().inv_cdf((workers - 0.375) / (workers + 0.25)) if workers > 1 else 0.0
