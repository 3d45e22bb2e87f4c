"""Part: int8 and 4-bit codebook products of a matrix and a vector, against cuBLAS in float16 and float32.

The weights of all sets of buffers together are three times the cache, so that they come from memory each time.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from benchmarks.gpu import stopwatch
from benchmarks.gpu.contest import OURS, Contest, Rival, require_device, run_contest
from benchmarks.gpu.findings import Bar, Found
from benchmarks.gpu.part import Task
from benchmarks.gpu.rivals import keeping, launching
from kernels.quantized.gemv import Launcher
from kernels.quantized.product import CENTROIDS, QuantizedProduct

SIZE = 8192
HALF, HALF_VECTOR, FULL = "cublas-float16", "cublas-float16-mv", "cublas-float32"
HALF_TOLERANCE = 5e-3  # float16 weights, inputs and result


@dataclass(frozen=True)
class Weights:
    """One kind of quantized weights, and by how much it has to be ahead of float16."""

    name: str
    kind: str
    inputs: str
    bar: float


KINDS = (
    Weights("int8", "int8", "float32", 1.6),
    Weights("int8-float16-inputs", "int8", "float16", 1.6),
    Weights("4-bit", "codebook", "float32", 2.5),
    Weights("4-bit-float16-inputs", "codebook", "float16", 2.5),
)


def tasks(argument: str) -> list[Task]:
    """Return a task for each kind of weights."""
    return [Task(f"{kind.name}-{SIZE}", functools.partial(run, kind)) for kind in KINDS]


def run(kind: Weights) -> Found:
    """Return the figures of one kind of weights."""
    require_device()
    return run_contest(contest(kind, SIZE, SIZE, "cuda"))


@dataclass(frozen=True)
class Matrix:
    """Quantized weights as our kernel takes them, and the same as one float32 matrix."""

    packed: torch.Tensor
    table: torch.Tensor
    dense: torch.Tensor


def draw_matrix(product: QuantizedProduct, device: str, seed: int = 0) -> Matrix:
    """Return random weights: integers with a scale a row, or codes with a codebook a row."""
    random = np.random.default_rng(seed)
    rows, columns = product.rows, product.columns
    codebook = product.weights == "codebook"
    low, high = (0, CENTROIDS) if codebook else (-127, 128)
    values = random.integers(low, high, (rows, columns), np.int8)
    packed = torch.from_numpy(product.packing.pack(values).view(np.int32)).to(device)
    codes = torch.from_numpy(values).to(device)
    if codebook:
        table = torch.from_numpy(random.standard_normal((rows, CENTROIDS)).astype(np.float32) / 90).to(device)
        dense = torch.gather(table, 1, codes.long())
    else:
        table = torch.from_numpy(random.uniform(0.5, 1.5, rows).astype(np.float32) / (127 * 90)).to(device)
        dense = codes.float() * table[:, None]
    return Matrix(packed, table, dense)


def contest(kind: Weights, rows: int, columns: int, device: str) -> Contest:
    """Return the contest of one kind of weights; each rival has as many copies of them as go past the cache."""
    product = QuantizedProduct(rows, columns, weights=kind.kind, inputs=kind.inputs)
    matrix = draw_matrix(product, device)
    x = torch.randn(columns, device=device)
    half = x.half()
    given = half.view(torch.int16) if kind.inputs == "float16" else x
    launcher = Launcher(product)

    def ours() -> Rival:
        copies = _copies(matrix.packed, device)
        return launching(launcher.launch, [(w, given, matrix.table, torch.empty(rows, device=device)) for w in copies])

    def linear(dense: torch.Tensor, vector: torch.Tensor) -> Rival:
        return keeping(_linear, [(vector, w) for w in _copies(dense, device)])

    return Contest(
        case=f"{kind.name}-{rows}x{columns}",
        rivals={
            OURS: ours,
            HALF: lambda: linear(matrix.dense.half(), half),
            HALF_VECTOR: lambda: keeping(torch.mv, [(w, half) for w in _copies(matrix.dense.half(), device)]),
            FULL: lambda: linear(matrix.dense, x),
        },
        wanted=lambda: matrix.dense.double() @ (half if kind.inputs == "float16" else x).double(),
        tolerance=1e-5,
        tolerances={HALF: HALF_TOLERANCE, HALF_VECTOR: HALF_TOLERANCE, FULL: HALF_TOLERANCE},
        bars={name: (Bar("ratio", at_least=kind.bar),) for name in (HALF, HALF_VECTOR)},
    )


def _linear(vector: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.linear(vector[None], weights)[0]


def _copies(weights: torch.Tensor, device: str) -> Sequence[torch.Tensor]:
    sets = stopwatch.sets_beyond_cache(weights.nbytes) if device != "cpu" else 2
    return [weights, *(weights.clone() for _ in range(sets - 1))]
