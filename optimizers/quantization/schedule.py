"""The process of compressing: what it is calibrated with, and how it is tuned afterwards."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optimizers.quantization.errors import CompressionError

FINETUNES = ("centroids",)
Loss = Callable[[Any, Any, Any], Any]


@dataclass(frozen=True)
class Schedule:
    """How weights are fitted and tuned.

    calibration:   inputs that fits look at: tensors, a list of batches, or a function of the seed (as `inputs`).
    mask:          the model's argument [batch, length] that is 0 where tokens are padding: these rows count nowhere.
    finetune:      "centroids": shared values move by the summed gradients of the weights that share them
                   (so do the kept weights of "prune" and the factors of "low-rank"); None leaves them as fitted.
    steps:         of fine-tuning, each on one calibration batch.
    learning_rate: relative to the spread of the values that are tuned.
    loss:          `loss(output, reference, batch) -> scalar`, reference being the float model's output;
                   default: the squared difference of floating outputs, relative to the reference's size.
    prune_ramp:    of the steps, so many raise the sparsity to what the rules say, fast at first; the rest tune.
    checkpoint:    a file to which tuning is saved now and then, and from which it goes on.
    seed:          of the order of batches.
    """

    calibration: Any = None
    mask: str | None = "attention_mask"
    finetune: str | None = None
    steps: int = 0
    learning_rate: float = 0.001
    loss: Loss | None = None
    prune_ramp: int = 0
    checkpoint: str | Path | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.finetune is not None and self.finetune not in FINETUNES:
            raise CompressionError(f"Schedule.finetune is {self.finetune!r}; give {', '.join(FINETUNES)} or None")
        for name in ("steps", "prune_ramp", "seed"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 0:
                raise CompressionError(f"Schedule.{name} is {value!r}; give a whole number, 0 or more")
        rate = self.learning_rate
        if not isinstance(rate, int | float) or isinstance(rate, bool) or not 0 < rate < float("inf"):
            raise CompressionError(f"Schedule.learning_rate is {rate!r}; give a number above 0")
        if self.finetune is not None and self.steps == 0:
            raise CompressionError(f"Schedule.finetune={self.finetune!r} with 0 steps does nothing; give steps=…")
        if self.finetune is None and (self.steps or self.prune_ramp):
            raise CompressionError("Schedule has steps but no finetune; give finetune='centroids', or steps=0")
        if self.prune_ramp > self.steps:
            raise CompressionError(f"Schedule.prune_ramp is {self.prune_ramp}; give at most steps, {self.steps}")
        if self.loss is not None and not callable(self.loss):
            raise CompressionError(
                f"Schedule.loss is a {type(self.loss).__name__}; give loss(output, reference, batch)"
            )

    def record(self) -> dict[str, Any]:
        """Return what repeats the schedule, as plain JSON values; inputs and functions are only named."""
        plain = ("mask", "finetune", "steps", "learning_rate", "prune_ramp", "seed")
        return {name: getattr(self, name) for name in plain} | {"loss": _name(self.loss)}


def _name(function: Any) -> str | None:
    return None if function is None else str(getattr(function, "__qualname__", type(function).__name__))
