"""Bytes in a file, told without writing it."""

import numpy as np
import pytest

from optimizers.quantization.encode import WEIGHTS_FILE, encode
from optimizers.quantization.file_bytes import HUFFMAN, PLAIN, file_bytes
from optimizers.quantization.methods import compress_weight
from optimizers.quantization.methods.weight import WeightInputs
from optimizers.quantization.rules import Rule

RULES = {
    "int8": Rule("*", "int8"),
    "codebook": Rule("*", "kmeans", 4),
    "grouped": Rule("*", "kmeans", 3, "group", 16),
    "pruned-codebook": Rule("*", "kmeans", 4, sparsity=0.7),
    "sparse": Rule("*", "prune", sparsity=0.7),
    "thin": Rule("*", "low-rank", rank=7),
    "bfloat16": Rule("*", "bfloat16"),
}


@pytest.mark.parametrize("coding", [PLAIN, HUFFMAN])
@pytest.mark.parametrize("name", RULES)
def test_it_is_what_the_file_takes_but_for_its_header(name, coding):
    values = np.random.default_rng().normal(size=(67, 131)).astype(np.float32)
    weight = compress_weight(WeightInputs(values), RULES[name])
    written = encode({"layer.weight": weight}, {}, coding=coding)[WEIGHTS_FILE]
    header = 8 + int.from_bytes(written[:8], "little")
    # a row of codes ends at a whole byte, a block of coded ones too
    assert abs(len(written) - header - file_bytes(weight, coding)) <= 67 + 8


def test_pruned_codebooks_take_fewer_bytes_in_huffman_codes_alone():
    values = np.random.default_rng().normal(size=(64, 256)).astype(np.float32)
    four, pruned = (compress_weight(WeightInputs(values), RULES[name]) for name in ("codebook", "pruned-codebook"))
    assert file_bytes(pruned, HUFFMAN) < 0.75 * file_bytes(four, HUFFMAN) <= 0.75 * file_bytes(four)
    assert file_bytes(pruned) == file_bytes(four)
