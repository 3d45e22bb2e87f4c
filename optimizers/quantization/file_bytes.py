"""How many bytes of a file a compressed weight takes, without writing it."""

from __future__ import annotations

from collections.abc import Mapping

from optimizers.quantization.compressed import CODEBOOK, GROUPED_CODEBOOK, INT8, INT8_WEIGHT_ONLY, CompressedWeight

PLAIN, HUFFMAN = "plain", "huffman"
CODED: Mapping[str, str] = {INT8: "values", INT8_WEIGHT_ONLY: "values", CODEBOOK: "codes", GROUPED_CODEBOOK: "codes"}
"""By compressed form: the array that Huffman codes may stand for."""


def file_bytes(weight: CompressedWeight, coding: str = PLAIN) -> int:
    """Return the bytes of the arrays that `encode` writes, to within a byte a row of codes or a block of coded ones."""
    part = CODED.get(weight.method)
    if coding != HUFFMAN or part is None:
        return weight.stored_bytes
    from kernels.quantized import huffman  # its compiled loops take a moment, and few files are coded

    symbols = weight.arrays[part]
    plain = -(-symbols.size * weight.bits // 8)
    return weight.stored_bytes - plain + min(plain, huffman.encoded_bytes(symbols))
