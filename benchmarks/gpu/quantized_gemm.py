"""Part: int8 and 4-bit codebook products of a matrix and a small batch, against cuBLAS in float16 and in int8.

Ours takes float32 activations and makes bytes of them in the time that is measured; cuBLAS's int8 product is given
bytes. The weights of all sets of buffers together are three times the cache, so that they come from memory each time.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from benchmarks.gpu import stopwatch
from benchmarks.gpu.contest import OURS, Contest, Rival, require_device, run_contest
from benchmarks.gpu.findings import Bar, Found
from benchmarks.gpu.part import Task
from benchmarks.gpu.rivals import keeping, stream_handle
from kernels.quantized.device_product import DeviceProduct, DeviceWeights
from kernels.quantized.product import CENTROIDS

SIZE = 8192
BATCHES = (24, 64)
JUDGED_BATCH = 24  # a larger one is bound by the tensor cores, where float16 is as good
HALF, INTEGER = "cublas-float16", "cublas-int8"
HALF_TOLERANCE = 5e-3  # float16 weights, inputs and result
BYTES_TOLERANCE = 2e-2  # activations in bytes


@dataclass(frozen=True)
class Formats:
    """One kind of quantized weights."""

    name: str
    weights: str


FORMATS = (Formats("int8", "int8"), Formats("4-bit", "codebook"))


def tasks(argument: str) -> list[Task]:
    """Return a task for each kind of weights and batch."""
    return [
        Task(f"{formats.name}-{SIZE}-b{batch}", functools.partial(run, formats, batch))
        for formats in FORMATS
        for batch in BATCHES
    ]


def run(formats: Formats, batch: int) -> Found:
    """Return the figures of one kind of weights and batch."""
    require_device()
    return run_contest(contest(formats, SIZE, SIZE, batch, "cuda"))


@dataclass(frozen=True)
class Matrix:
    """Quantized weights as our kernels take them, and the same as one float32 matrix and as integers."""

    arrays: dict[str, torch.Tensor]
    dense: torch.Tensor
    integers: torch.Tensor


def draw_matrix(weights: DeviceWeights, device: str, seed: int = 0) -> Matrix:
    """Return random weights: integers with a scale a row, or codes with a codebook of integers a row."""
    random, rows = np.random.default_rng(seed), weights.rows
    values = random.integers(-127, 128, (rows, weights.columns), np.int8)
    given: dict[str, np.ndarray] = {"scales": random.uniform(0.5, 1.5, rows).astype(np.float32) / (127 * 90)}
    if weights.weights == "codebook":
        tables = random.integers(-127, 128, (rows, CENTROIDS), np.int8)
        codes = random.integers(0, CENTROIDS, values.shape, np.int8)
        values = np.take_along_axis(tables, codes.astype(np.intp), axis=1)
        given |= {"weights": weights.packing.pack(codes).view(np.int32), "tables": tables}
    else:
        given["weights"] = weights.packing.pack(values).view(np.int32)
    given["sums"] = values.sum(axis=1, dtype=np.int32)
    arrays = {name: torch.from_numpy(given[name]).to(device) for name in weights.arrays}
    integers = torch.from_numpy(values).to(device)
    return Matrix(arrays, integers.float() * arrays["scales"][:, None], integers)


def contest(formats: Formats, rows: int, columns: int, batch: int, device: str) -> Contest:
    """Return the contest of one kind of weights; each rival has as many copies of them as go past the cache."""
    weights = DeviceWeights(rows, columns, formats.weights)
    matrix, x = draw_matrix(weights, device), torch.randn(batch, columns, device=device)
    product = DeviceProduct(weights)
    rivals: dict[str, Callable[[], Rival]] = {
        OURS: lambda: _ours(product, matrix, x),
        HALF: lambda: keeping(
            torch.nn.functional.linear, [(x.half(), w) for w in _copies(matrix.dense.half(), device)]
        ),
    }
    if formats.weights == "int8":
        rivals[INTEGER] = lambda: _integers(matrix, x, device)
    return Contest(
        case=f"{formats.name}-{rows}x{columns}-b{batch}",
        rivals=rivals,
        wanted=lambda: x.double() @ matrix.dense.double().T,
        tolerance=BYTES_TOLERANCE,
        tolerances={HALF: HALF_TOLERANCE, INTEGER: None},
        bars={HALF: (Bar("ratio", at_least=1.0),)} if batch <= JUDGED_BATCH else {},
    )


def _ours(product: DeviceProduct, matrix: Matrix, x: torch.Tensor) -> Rival:
    batch, rows = len(x), product.weights.rows
    workspace = torch.empty(product.workspace_bytes(batch), dtype=torch.uint8, device=x.device)

    def call(packed: torch.Tensor) -> Callable[[], torch.Tensor]:
        out = torch.empty(batch, rows, device=x.device)
        arrays = {**matrix.arrays, "weights": packed}

        def run() -> torch.Tensor:
            addresses = {name: array.data_ptr() for name, array in arrays.items()}
            places = (x.data_ptr(), batch, out.data_ptr(), workspace.data_ptr())
            product.launch(addresses, *places, stream_handle())
            return out

        return run

    return Rival([call(packed) for packed in _copies(matrix.arrays["weights"], x.device.type)])


def _integers(matrix: Matrix, x: torch.Tensor, device: str) -> Rival:
    """Return cuBLAS's product of bytes, which takes batches above 16: a smaller one is filled up."""
    filled = torch.zeros(max(32, len(x)), x.shape[1], dtype=torch.int8, device=device)
    filled[: len(x)] = (x * (127 / x.abs().amax(dim=1, keepdim=True))).round().to(torch.int8)
    return keeping(torch._int_mm, [(filled, w.T) for w in _copies(matrix.integers, device)])


def _copies(weights: torch.Tensor, device: str) -> list[torch.Tensor]:
    sets = stopwatch.sets_beyond_cache(weights.nbytes) if device != "cpu" else 2
    return [weights, *(weights.clone() for _ in range(sets - 1))]
