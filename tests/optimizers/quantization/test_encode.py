from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load as load_safetensors

from analyzer.errors import HotbenchError, RecordError
from kernels.quantized.cpu_lookup_weights import LOOKUP_BITS
from optimizers.quantization.compressed import ARRAYS, BFLOAT16, CODEBOOK, GROUPED_CODEBOOK, INT8, CompressedWeight
from optimizers.quantization.encode import RECIPE_FILE, WEIGHTS_FILE, decode, encode
from optimizers.quantization.file_bytes import HUFFMAN, PLAIN
from optimizers.quantization.modules.prepare import kinds
from optimizers.quantization.tensor_file import Stored, read, written
from tests.optimizers.quantization.weights import FORMS, compressed


def same(left: CompressedWeight, right: CompressedWeight) -> bool:
    plain = (left.method, left.shape, left.bits, left.group) == (right.method, right.shape, right.bits, right.group)
    arrays = (np.array_equal(left.arrays[name], right.arrays[name]) for name in ARRAYS[left.method])
    return plain and all(arrays) and np.array_equal(left.dequantised(), right.dequantised())


@pytest.mark.parametrize("lying", ["plain", "huffman", "panels"])
@settings(max_examples=15, deadline=None)
@given(rows=st.integers(1, 90), columns=st.integers(1, 70), bits=st.integers(1, 4), shared=st.booleans())
def test_every_form_comes_back_bit_for_bit(lying: str, rows: int, columns: int, bits: int, shared: bool) -> None:
    values = torch.randn(rows, columns)
    weights = {f"{method}.weight": compressed(method, values, bits, shared) for method in FORMS}
    chosen = {name: kinds(weight)[0] for name, weight in weights.items()}
    panels = tuple(weights) if lying == "panels" else ()
    found = decode(encode(weights, {}, None, chosen, panels, HUFFMAN if lying == "huffman" else PLAIN))
    assert found.kinds == chosen and list(found.weights) == sorted(weights)
    assert all(same(found.weights[name], weight) for name, weight in weights.items())


def test_codes_take_their_true_bits_and_other_readers_read_the_file() -> None:
    values = torch.randn(64, 1024)
    for bits in (1, 2, 3, 4):
        weight = compressed(CODEBOOK, values, bits)
        content = encode({"w": weight}, {})[WEIGHTS_FILE]
        assert weight.stored_bytes <= len(content) <= weight.stored_bytes + 320
        tensors = load_safetensors(content)
        assert tensors["w.codes"].shape == (64, 1024 * bits // 8) and tensors["w.tables"].dtype is torch.int8


def test_huffman_coding_makes_uneven_codes_smaller_and_is_left_where_it_does_not() -> None:
    even = compressed(CODEBOOK, torch.randn(100, 400), 4)
    codes = np.where(np.random.default_rng().random((100, 400)) < 0.8, 0, even.arrays["codes"]).astype(np.uint8)
    uneven = CompressedWeight(CODEBOOK, even.shape, 4, None, {**even.arrays, "codes": codes})
    plain, coded = (encode({"w": uneven}, {}, coding=coding) for coding in (PLAIN, HUFFMAN))
    assert len(coded[WEIGHTS_FILE]) < 0.7 * len(plain[WEIGHTS_FILE])
    flat = np.random.default_rng().integers(0, 16, (100, 400), dtype=np.uint8)
    random = CompressedWeight(CODEBOOK, even.shape, 4, None, {**even.arrays, "codes": flat})
    plain, coded = (encode({"w": random}, {}, coding=coding) for coding in (PLAIN, HUFFMAN))
    assert plain[WEIGHTS_FILE] == coded[WEIGHTS_FILE]


def test_panels_start_at_lines_and_are_read_where_they_lie() -> None:
    weight = compressed(INT8, torch.randn(128, 512))
    content = np.frombuffer(
        encode({"w": weight}, {}, {"a": torch.ones(3)}, {"w": INT8}, ("w",))[WEIGHTS_FILE], np.uint8
    )
    lines = np.empty(len(content) + 64, np.uint8)
    start = -lines.ctypes.data % 64
    lines[start : start + len(content)] = content
    mapped = lines[start : start + len(content)]
    panels = read(mapped, "file")["w.panels"].array
    assert panels.ctypes.data % 64 == 0 and np.shares_memory(panels, mapped)


@pytest.mark.parametrize(("method", "bits"), [(CODEBOOK, 3), (CODEBOOK, 4), (GROUPED_CODEBOOK, 4)])
def test_codebooks_for_float_activations_lie_as_their_product_reads_them(method: str, bits: int) -> None:
    weight = compressed(method, torch.randn(64, 4128), bits)
    kind = kinds(weight, "float")[0]
    assert kind in LOOKUP_BITS
    files = encode({"w": weight}, {}, None, {"w": kind}, ("w",))
    text = json.loads(files[RECIPE_FILE])["weights"]["w"]
    # of groups, and where 3 bits lie as a multiple of a byte, panels take more room than codes
    assert text.get("panels") == (kind if (method, bits) == (CODEBOOK, 4) else None)
    assert same(decode(files).weights["w"], weight)


def test_weights_and_tensors_that_are_one_are_stored_once() -> None:
    weight, tensor = compressed(INT8, torch.randn(9, 8)), torch.randn(50, 40)
    rest = {"a": tensor, "b": tensor, "c": tensor[:, :1], "half": torch.randn(3).bfloat16(), "n": torch.tensor(7)}
    files = encode({"one": weight, "two": weight}, {"note": "x"}, rest)
    found = decode(files)
    assert found.weights["one"] is found.weights["two"] and found.recipe == {"note": "x"}
    assert len(files[WEIGHTS_FILE]) < 1.3 * tensor.nbytes
    assert set(found.rest) == set(rest)
    assert all(
        torch.equal(found.rest[name], value) and found.rest[name].dtype is value.dtype for name, value in rest.items()
    )


def test_a_file_of_tensors_that_is_damaged_anywhere_is_refused_in_one_line() -> None:
    content = written({"a": Stored(np.arange(6, dtype=np.int32).reshape(2, 3)), "b": Stored(np.zeros(0, np.float32))})
    assert np.array_equal(read(content, "f")["a"].array, [[0, 1, 2], [3, 4, 5]])
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    damaged = [content[:0], content[:5], content[:40], content[:-1], content + b"x", b"\xff" * 8 + content[8:]]
    for change in (
        {"a": {**header["a"], "shape": [2, 4]}},
        {"a": {**header["a"], "shape": [-2, -3]}},
        {"a": {**header["a"], "dtype": "Q7"}},
        {"a": {**header["a"], "data_offsets": [4, 28]}},
        {"a": {**header["a"], "data_offsets": [0, 2**62]}},
        {"a": 5},
        {"a": {}},
    ):
        text = json.dumps({**header, **change}).encode()
        damaged.append(len(text).to_bytes(8, "little") + text + content[-24:])
    for data in damaged:
        with pytest.raises(RecordError, match=r"^f is no whole tensor file \(.*\); save or copy it again$"):
            read(data, "f")


def test_a_recipe_that_does_not_fit_the_tensors_is_refused_in_one_line() -> None:
    weights = {method: compressed(method, torch.randn(6, 40)) for method in FORMS}
    files = encode(weights, {})
    text = json.loads(files[RECIPE_FILE])

    def refused(name: str, change: object, message: str = "do not fit together") -> None:
        entry = {**text["weights"][name], **change} if isinstance(change, dict) else change
        altered = {**text, "weights": {**text["weights"], name: entry}}
        with pytest.raises(RecordError, match=message) as caught:
            decode({**files, RECIPE_FILE: json.dumps(altered).encode()})
        assert "\n" not in str(caught.value)

    for name in FORMS:
        refused(name, {"shape": [6, 37]})
        refused(name, {"shape": [600, 40]})
        refused(name, {"method": "zip"})
        refused(name, {"same_as": "nothing"})
        refused(name, None)
    refused(CODEBOOK, {"bits": 3})
    refused(CODEBOOK, {"bits": 40})
    refused(GROUPED_CODEBOOK, {"group": 32})
    refused(GROUPED_CODEBOOK, {"panels": CODEBOOK, "books": 1})
    refused(INT8, {"coding": "huffman"})
    refused(BFLOAT16, {"bits": "x"})
    for content in (b"", b"{}", b'{"format": "hotbench-compressed-weights", "format_version": 99}'):
        with pytest.raises(RecordError, match="recipe.json"):
            decode({**files, RECIPE_FILE: content})
    with pytest.raises(RecordError, match="weights.safetensors is missing"):
        decode({RECIPE_FILE: files[RECIPE_FILE]})
    with pytest.raises(HotbenchError, match="the coding 'zip' is not known"):
        encode(weights, {}, coding="zip")
