"""How far one encoder's answers are from another's, on the same texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from benchmarks.quantization_cases import AGREEMENT, COSINE

Vectors = npt.NDArray[np.float32]
_RIDGE = 1e-2


def compared(found: Vectors, reference: Vectors, classes: Sequence[str]) -> dict[str, float]:
    """Return cosine (the mean), its least value, and, of unit vectors [texts, size] with classes, agreement.

    agreement: of the classes that a linear probe, trained on the reference's vectors, gives both; neighbours: of the
    nearest neighbours among all texts, a harder question.
    """
    found, reference = found.astype(np.float64), reference.astype(np.float64)
    lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(reference, axis=1)
    cosines = (found * reference).sum(axis=1) / np.maximum(lengths, 1e-30)
    result = {COSINE: float(cosines.mean()), "least_cosine": float(cosines.min())}
    if classes:
        probe = trained(reference, classes)
        same = (found @ probe).argmax(axis=1) == (reference @ probe).argmax(axis=1)
        result[AGREEMENT] = float(same.mean())
        result["neighbours"] = float((_nearest(found) == _nearest(reference)).mean())
    return result


def trained(vectors: npt.NDArray[np.float64], classes: Sequence[str]) -> npt.NDArray[np.float64]:
    """Return the weights [size, classes] of a ridge regression onto the classes."""
    names = sorted(set(classes))
    wanted = np.array([[name == given for name in names] for given in classes], np.float64)
    squares = vectors.T @ vectors + _RIDGE * np.eye(vectors.shape[1])
    weights: npt.NDArray[np.float64] = np.linalg.solve(squares, vectors.T @ wanted)
    return weights


def _nearest(vectors: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    similar = vectors @ vectors.T
    np.fill_diagonal(similar, -np.inf)
    return similar.argmax(axis=1)


def answers_of(vectors: Mapping[str, Vectors], reference: str, classes: Sequence[str]) -> dict[str, dict[str, float]]:
    """Return `compared` of each peer's vectors with those of one of them; nothing where that one has none."""
    if reference not in vectors:
        return {}
    return {peer: compared(found, vectors[reference], classes) for peer, found in vectors.items()}
