"""How close a changed model's answers are to those of the model as it was, on batches drawn for it."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch

from analyzer.workload import Workload
from optimizers.quantization.errors import CompressionError
from optimizers.quantization.gate import measure, metrics, reference_outputs
from optimizers.quantization.sensitivity import Answers

FIRST_SEED = 10_000
"""Of the inputs that answers are compared on: not those of an experiment, which judges on others."""


class Reference:
    """A workload's answers before anything is changed."""

    def __init__(self, workload: Workload, batches: int) -> None:
        """Run the model on `batches` batches. Raises CompressionError where answers are no finite numbers."""
        self._inputs = [workload.batch(FIRST_SEED + k) for k in range(batches)]
        self._evaluate = workload.evaluate
        self._outputs = reference_outputs(workload.model, self._inputs)
        if not all(bool(tensor.isfinite().all()) for outputs in self._outputs for tensor in outputs):
            raise CompressionError("an answer of the model holds NaN or infinity; mend the model or its inputs first")
        self._metrics = metrics(workload.model, self._evaluate)
        self.rows = sum(
            outputs[0].numel() // max(outputs[0].shape[-1], 1) for outputs in self._outputs if outputs[0].dim()
        )
        """Of answers that are compared over all batches, of the first output."""

    @property
    def batches(self) -> int:
        """Return how many batches there are."""
        return len(self._inputs)

    def compare(self, model: torch.nn.Module, batches: int | None = None, whole: bool = True) -> Answers:
        """Return how close `model`'s answers are, on the first `batches` of them (default: all).

        whole: whether the workload's own evaluation runs as well. A cosine that is no number is -1.
        """
        count = self.batches if batches is None else min(batches, self.batches)
        evaluate = self._evaluate if whole else None
        found = measure(model, self._outputs[:count], self._inputs[:count], evaluate, self._metrics)
        cosine = -1.0 if found.cosine is None or math.isnan(found.cosine) else found.cosine
        return Answers(cosine, found.agreement, self._drops(found.metric_after) if whole else {})

    def _drops(self, after: Mapping[str, float]) -> dict[str, float]:
        drops = {name: before - after.get(name, -math.inf) for name, before in self._metrics.items()}
        # A metric that became NaN has fallen as far as it can.
        return {name: math.inf if math.isnan(drop) else drop for name, drop in drops.items()}
