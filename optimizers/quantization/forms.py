"""The forms that the optimizer weighs for a layer: float, bfloat16, int8, codebooks, sparse weights, thin matrices."""

from __future__ import annotations

import math
from dataclasses import dataclass

GROUP = 64
"""Weights of a row that share a codebook where the scope is "group"."""
PRUNE, LOW_RANK = "prune", "low-rank"
DEFAULT_SPARSITY, DEFAULT_SHARE = 0.5, 0.25
"""Of pruning and of thin matrices, where they are asked for without a degree."""
_FLOAT_BYTES, _START_BYTES = 4, 8
_MOST_SHORT = 1 << 16


@dataclass(frozen=True, slots=True)
class Form:
    """How a layer's weights are kept. method, bits, scope are a Rule's; a float layer has the method "float".

    degree: of "prune" and of pruned codebooks the share of the weights that become zero; of "low-rank" the share of the
    weights' bytes that two thin matrices take; 0 of all others.
    """

    method: str
    bits: int
    scope: str = "row"
    degree: float = 0.0

    @property
    def name(self) -> str:
        """Return a short stable name, such as "int8", "kmeans-4", "kmeans-4-pruned-0.5" or "low-rank-0.25"."""
        if self.method == "kmeans":
            return f"kmeans-{self.bits}" + (f"-pruned-{self.degree:g}" if self.degree else "")
        return f"{self.method}-{self.degree:g}" if self.degree else self.method

    @property
    def choice(self) -> str:
        """Return what stands for it in the option `layers`: its bits, or "prune" or "low-rank"."""
        return self.method if self.method in (PRUNE, LOW_RANK) else str(self.bits)

    def rank(self, rows: int, columns: int) -> int:
        """Return how many columns the thin matrices of a [rows, columns] weight have, 1 at least."""
        return max(1, int(self.degree * rows * columns / (rows + columns)))

    def predicted_bytes(self, rows: int, columns: int) -> int:
        """Return the bytes of a [rows, columns] weight in this form: indices at their bits, scales, codebooks.

        Of a pruned codebook as Huffman codes would take them, each centroid but zero being as frequent as the others.
        """
        elements = rows * columns
        if self.method == LOW_RANK:
            return _FLOAT_BYTES * self.rank(rows, columns) * (rows + columns)
        if self.method == PRUNE:
            place = 2 if columns <= _MOST_SHORT else 4
            return math.ceil((1 - self.degree) * elements) * (_FLOAT_BYTES + place) + _START_BYTES * (rows + 1)
        if self.method in ("float", "bfloat16"):
            return elements * self.bits // 8
        if self.method.startswith("int8"):
            return elements + 4 * rows
        books = {"tensor": 1, "row": rows, "group": rows * -(-columns // GROUP)}[self.scope]
        return math.ceil(elements * self._code_bits() / 8) + books * ((1 << self.bits) + 4)

    def _code_bits(self) -> float:
        """Return the bits of a code: fewer where zero is frequent."""
        zero = self.degree
        if not zero:
            return self.bits
        others = (1 - zero) * math.log2(max((1 << self.bits) - 1, 1))
        entropy = -zero * math.log2(zero) - (1 - zero) * math.log2(1 - zero) + others
        return min(max(entropy, 1.0), float(self.bits))


FLOAT = Form("float", 32)


def forms_of_method(
    method: str, bits: int, scope: str, prune: float = 0.0, low_rank: float = 0.0, coded: bool = False
) -> tuple[Form, ...]:
    """Return what a method offers beside float: auto has int8 and codebooks of 4 bits down to bits.

    A k-means codebook of few bits may fall back to more bits, up to 4.
    prune, low_rank: degrees that are tried as well, with auto and with their own method; 0 tries none.
    coded: whether files hold Huffman codes, without which a pruned codebook is no smaller.
    """
    codebooks = tuple(Form("kmeans", count, scope) for count in range(4, bits - 1, -1))
    pruned_scope = "row" if scope == "group" else scope
    # a codebook of 1 bit with a centroid at zero has one other value: no row's weights are of one sign
    pruned = tuple(Form("kmeans", form.bits, pruned_scope, prune) for form in codebooks if prune and form.bits > 1)
    sparse = (Form(PRUNE, 32, "row", prune),) if prune else ()
    thin = (Form(LOW_RANK, 32, "row", low_rank),) if low_rank else ()
    if method == "auto":
        return (Form("int8", 8), *sparse, *thin, *codebooks, *(pruned if coded else ()))
    if method == "kmeans":
        return (*codebooks, *(pruned if coded else ()))
    if method in (PRUNE, LOW_RANK):
        return (_of_degree(method, prune, low_rank),)
    return (_fixed(method),)


def pinned_form(choice: str, method: str, scope: str, prune: float = 0.0, low_rank: float = 0.0) -> Form:
    """Return the form of a layer that was given one: "32" float, "16" bfloat16, "8" int8, fewer bits a codebook.

    "prune" and "low-rank" have the degrees given, or their defaults.
    """
    if choice in (PRUNE, LOW_RANK):
        return _of_degree(choice, prune, low_rank)
    bits = int(choice)
    if bits == FLOAT.bits:
        return FLOAT
    if bits == 16:
        return _fixed("bfloat16")
    if bits == 8:
        return _fixed("int8-weight-only" if method == "int8-weight-only" else "int8")
    return Form("kmeans", bits, scope)


def _of_degree(method: str, prune: float, low_rank: float) -> Form:
    degree = (prune or DEFAULT_SPARSITY) if method == PRUNE else (low_rank or DEFAULT_SHARE)
    return Form(method, 32, "row", degree)


def _fixed(method: str) -> Form:
    return Form(method, 16 if method == "bfloat16" else 8)
