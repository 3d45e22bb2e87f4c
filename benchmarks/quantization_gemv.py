"""One vector times a large matrix: layers in turns, so that each one's weights come from memory, not from a cache."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.quantization_cases import ATEN4, FLOAT, HALF, SIZE, Case
from benchmarks.quantization_prepared import OURS, Prepared, compressed_by, stored_bytes, without_gradients

COLD_BYTES = 256 << 20
"""Of the weights of all layers together: more than the last-level caches of a processor's cores."""
GROUP = 64
Layer = Callable[[torch.Tensor], Any]


def prepared(case: Case, peer: str, _texts: int = 0) -> Prepared:
    """Return a step that calls the next of many layers with equal sizes."""
    rows, columns = case.size
    make = _ours_in_float if (peer, case.form) == (OURS, "kmeans-float") else _MAKERS[peer]
    layer, size, dtype, said = make(rows, columns)
    copies = max(2, -(-COLD_BYTES // size))
    layers = itertools.cycle([layer, *(copy.deepcopy(layer) for _ in range(copies - 1))])
    x = torch.randn(1, columns, generator=torch.Generator().manual_seed(1)).to(dtype)

    def turn(given: torch.Tensor) -> Any:
        return next(layers)(given)

    step = without_gradients(turn, x)
    return Prepared(step, {SIZE: float(size)}, None, f"{copies} layers in turns; {said}".removesuffix("; "))


def _float(rows: int, columns: int) -> tuple[Layer, int, torch.dtype, str]:
    layer = _linear(rows, columns)
    return layer, stored_bytes(layer), torch.float32, ""


def _half(rows: int, columns: int) -> tuple[Layer, int, torch.dtype, str]:
    layer = _linear(rows, columns).bfloat16()
    return layer, stored_bytes(layer), torch.bfloat16, ""


def _aten4(rows: int, columns: int) -> tuple[Layer, int, torch.dtype, str]:
    codes = torch.randint(0, 16, (rows, columns), dtype=torch.int32)
    layer = _Int4(torch.ops.aten._convert_weight_to_int4pack_for_cpu(codes, 1), columns)
    return layer, stored_bytes(layer), torch.bfloat16, f"groups of {GROUP}"


class _Int4(torch.nn.Module):
    """ATen's product with 4-bit weights: a scale and a zero for each group of columns."""

    def __init__(self, packed: torch.Tensor, columns: int) -> None:
        super().__init__()
        self.register_buffer("packed", packed)
        self.register_buffer("scales", torch.rand(columns // GROUP, packed.shape[0], 2).bfloat16())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = torch.ops.aten._weight_int4pack_mm_for_cpu(x, self.packed, GROUP, self.scales)
        return result


def _ours(rows: int, columns: int, activations: str = "dynamic") -> tuple[Layer, int, torch.dtype, str]:
    import hotbench

    model = torch.nn.Sequential(_linear(rows, columns))
    made = compressed_by(model, [hotbench.Rule(torch.nn.Linear, method="kmeans", bits=4, activations=activations)])
    return made.model[0], made.bytes_after, torch.float32, made.summary()


def _ours_in_float(rows: int, columns: int) -> tuple[Layer, int, torch.dtype, str]:
    return _ours(rows, columns, "float")


def _linear(rows: int, columns: int) -> torch.nn.Linear:
    torch.manual_seed(0)
    return torch.nn.Linear(columns, rows, bias=False).requires_grad_(False)


_MAKERS: dict[str, Callable[[int, int], tuple[Layer, int, torch.dtype, str]]] = {
    OURS: _ours,
    FLOAT: _float,
    HALF: _half,
    ATEN4: _aten4,
}
