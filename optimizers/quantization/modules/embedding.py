"""Embeddings whose table is compressed."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from kernels.quantized.cpu_rows import packed_rows
from optimizers.quantization.compressed import (
    BFLOAT16,
    CODEBOOK,
    GROUPED_CODEBOOK,
    INT8,
    INT8_WEIGHT_ONLY,
    CompressedWeight,
    centroid_tables,
)
from optimizers.quantization.modules.base import QuantizedModule
from optimizers.quantization.modules.prepare import shared
from optimizers.quantization.op_embedding import embedding_op
from optimizers.quantization.packed_arrays import RowArrays

KINDS = {
    INT8: "int8",
    INT8_WEIGHT_ONLY: "int8",
    CODEBOOK: "codebook",
    GROUPED_CODEBOOK: "codebook",
    BFLOAT16: "bfloat16",
}
"""By compressed form: the kind of table that the op hotbench::quantized_embedding reads."""


class QuantizedEmbedding(QuantizedModule):
    """Looks rows of a compressed table up by the op hotbench::quantized_embedding: exactly the weights' rows."""

    holds = "embedding"
    codes: torch.Tensor
    scales: torch.Tensor
    tables: torch.Tensor | None

    def __init__(self, weight: CompressedWeight, padding_idx: int | None) -> None:
        super().__init__()
        self.num_embeddings, self.embedding_dim = weight.shape
        self.padding_idx = padding_idx
        self.kind, self.bits = KINDS[weight.method], weight.bits
        self.group = weight.group or self.embedding_dim
        arrays = embedding_arrays(weight)
        self.hold({name: arrays.get(name) for name in ("codes", "scales", "tables")})

    @property
    def weight(self) -> torch.Tensor:
        """Return a tensor without values, of the weight's shape and dtype: code that looks at those goes on working."""
        return torch.empty(self.num_embeddings, self.embedding_dim, device="meta")

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Return float32 [..., embedding_dim] for ids of any shape."""
        result: torch.Tensor = embedding_op(
            ids, self.codes, self.scales, self.tables,
            self.kind, self.num_embeddings, self.embedding_dim, self.bits, self.group,
        )  # fmt: skip
        return result

    def extra_repr(self) -> str:
        """Return sizes, kind and bits."""
        return f"{self.num_embeddings}, {self.embedding_dim}, kind={self.kind}, bits={self.bits}"


def quantized_embedding(original: torch.nn.Embedding, weight: CompressedWeight) -> QuantizedEmbedding:
    """Return the layer that takes an embedding's place."""
    return QuantizedEmbedding(weight, original.padding_idx).in_place_of(original)


def embedding_arrays(weight: CompressedWeight) -> dict[str, torch.Tensor]:
    """Return what the op hotbench::quantized_embedding reads of a weight, by the names of its arguments."""
    return {name: shared(np.ascontiguousarray(array)) for name, array in _arrays(weight).items()}


def _arrays(weight: CompressedWeight) -> dict[str, NDArray[Any]]:
    if weight.method in (INT8, INT8_WEIGHT_ONLY):
        return {"codes": weight.arrays["values"], "scales": weight.arrays["scales"]}
    if weight.method == BFLOAT16:
        return {"codes": weight.arrays["values"], "scales": np.ones(1, np.float32)}
    if isinstance(weight.arrays, RowArrays):
        rows, tables, scales = weight.arrays.rows, weight.arrays.tables, weight.arrays.scales
    else:
        tables, scales = centroid_tables(weight)
        rows = packed_rows(weight.arrays["codes"], weight.bits)
    if tables.ndim == 2:
        tables, scales = tables[:, None], scales[:, None]
    return {"codes": rows, "scales": scales, "tables": tables}
