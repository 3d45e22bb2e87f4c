"""What a method is given of a layer."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from optimizers.quantization.statistics import InputStatistics


@dataclass(frozen=True, slots=True, eq=False)
class WeightInputs:
    """A weight matrix and what is known of its inputs.

    values:     float32 [rows, columns].
    kind:       of the layer: "linear", "convolution", "embedding" or "recurrent".
    statistics: None where nobody looked.
    threads:    that a method may use.
    """

    values: NDArray[np.float32] = field(repr=False)
    kind: str = "linear"
    statistics: InputStatistics | None = None
    threads: int = 1
