"""The cases of benchmarks.quantization: what is compressed, against whom, and what is compared."""

from __future__ import annotations

from dataclasses import dataclass

from analyzer.errors import HotbenchError

FLOAT, HALF, TORCHAO, ATEN4 = "torch-f32", "torch-bf16", "torchao", "aten-int4"
ONNX, QUANTO, TORCH_AO, EXACT, PLAIN = "onnxruntime-int8", "quanto", "torch.ao", "exact", "plain-kmeans"
LATENCY, SIZE, AGREEMENT, COSINE, ERROR = "latency", "size_bytes", "agreement", "cosine", "squared_error"
HIGHER_IS_BETTER = frozenset((AGREEMENT, COSINE))
LENGTH = 24
"""Tokens of a text, padding included."""


@dataclass(frozen=True, slots=True)
class Case:
    """One compressed thing. family: which module prepares it; size: of the batch, or (rows, columns) of a product.

    once: it is measured a few times only, since one measurement takes seconds.
    """

    id: str
    family: str
    peers: tuple[str, ...]
    metrics: tuple[str, ...]
    form: str = ""
    size: tuple[int, ...] = (1,)
    once: bool = False


_ANSWERS = (LATENCY, SIZE, AGREEMENT, COSINE)
_ENCODERS = (FLOAT, HALF, TORCHAO, ONNX, QUANTO, TORCH_AO)
CASES = (
    Case("gemv-4096x4096-k4", "gemv", (FLOAT, HALF, ATEN4), (LATENCY, SIZE), "kmeans", (4096, 4096)),
    Case("gemv-11008x4096-k4", "gemv", (FLOAT, HALF, ATEN4), (LATENCY, SIZE), "kmeans", (11008, 4096)),
    Case("gemv-4096x4096-k4-float", "gemv", (FLOAT, HALF, ATEN4), (LATENCY, SIZE), "kmeans-float", (4096, 4096)),
    Case("minilm-b1", "minilm", _ENCODERS, _ANSWERS, "int8", (1,)),
    Case("minilm-b32", "minilm", _ENCODERS, _ANSWERS, "int8", (32,)),
    Case("minilm-f32", "minilm", (FLOAT, HALF), _ANSWERS, "float", (1,)),
    Case("minilm-bf16", "minilm", (FLOAT, HALF), _ANSWERS, "bfloat16", (1,)),
    Case("minilm-size", "minilm", (FLOAT, ONNX), _ANSWERS, "kmeans", (1,)),
    Case("minilm-size-97", "minilm", (FLOAT,), _ANSWERS, "mixed", (1,)),
    Case("minilm-size-tuned", "minilm", (FLOAT,), _ANSWERS, "tuned", (1,)),
    Case("g2p-gru", "g2p", (FLOAT,), (LATENCY, SIZE, AGREEMENT), "kmeans", (64,)),
    Case("resemblyzer-lstm", "resemblyzer", (FLOAT, TORCHAO, TORCH_AO), (LATENCY, SIZE, COSINE), "int8", (1,)),
    Case("kmeans-1e7", "fits", (EXACT,), (LATENCY, ERROR), once=True),
    Case("gptq-kmeans-minilm", "fits", (PLAIN,), (LATENCY, AGREEMENT, COSINE), once=True),
)
"""gemv-…-float: activations stay float32. minilm-size: 4 bits everywhere, fitted with error feedback; -97: int8,
and 4 bits in embeddings; -tuned: 4 bits, 3 in embeddings, then centroids tuned. g2p-gru: 4 bits; its agreement is
1 - phoneme error."""


def case_of(name: str) -> Case:
    """Return the case with an id. Raises HotbenchError for an unknown one."""
    for case in CASES:
        if case.id == name:
            return case
    raise HotbenchError(f"there is no case {name!r}; use one of {', '.join(case.id for case in CASES)}")
