"""Options of the quantization optimizer: what is allowed, and which forms a layer may take."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.errors import HotbenchError
from optimizers.quantization.forms import FLOAT, Form, forms_of_method
from optimizers.quantization.options import CHOICES, QuantizationOptions, pinned_layers, unmatched
from optimizers.settings import read_options


@pytest.mark.parametrize(
    ("setting", "value", "words"),
    [
        ("bits", "5", "codebooks have 1 to 4"),
        ("bits", "four", "whole number"),
        ("method", "magic", "choose one of auto"),
        ("min_agreement", "1.5", "a share from 0 to 1"),
        ("min_cosine", "nan", "a share from 0 to 1"),
        ("max_metric_drop", "-1", "give 0 or more"),
        ("max_slowdown", "inf", "give 0 or more"),
        ("finetune_steps", "-3", "give 0 to 1000000"),
        ("include", " , ", "name layers"),
        ("layers", "head", "write NAME=BITS"),
        ("layers", "head=5", "bits among 32, 16, 8"),
        ("layers", "=8", "write NAME=BITS"),
        ("prune", "1", "a share from 0 to below 1"),
        ("low_rank", "-0.5", "a share from 0 to below 1"),
        ("low_rank", "nan", "a share from 0 to below 1"),
        ("coding", "zip", "choose one of auto, plain, huffman"),
    ],
)
def test_a_wrong_option_is_told_in_one_line_with_its_value(setting, value, words):
    with pytest.raises(HotbenchError, match=words) as caught:
        read_options(["quantization"], {f"quantization.{setting}": value})
    assert "\n" not in str(caught.value) and value.strip(" ,") in str(caught.value)


def test_gates_can_be_left_out():
    options = read_options(["quantization"], {"quantization.min_agreement": "none", "quantization.min_cosine": "none"})
    assert options["quantization"].min_agreement is None and options["quantization"].max_metric_drop == 0.01


def test_auto_tries_int8_and_codebooks_down_to_the_fewest_bits():
    assert [form.name for form in QuantizationOptions(bits=2).forms("a")] == [
        "float", "int8", "kmeans-4", "kmeans-3", "kmeans-2",
    ]  # fmt: skip
    assert [form.name for form in QuantizationOptions(method="kmeans", bits=4).forms("a")] == ["float", "kmeans-4"]
    assert [form.name for form in QuantizationOptions(method="bfloat16").forms("a")] == ["float", "bfloat16"]


def test_layers_are_taken_by_pattern_and_given_bits_win_the_last_one_first():
    options = QuantizationOptions(include="encoder.*, head", exclude="*.norm", layers="encoder.*=8, encoder.out=32")
    assert options.forms("decoder") == (FLOAT,) and options.forms("encoder.norm") == (Form("int8", 8),)
    assert options.forms("encoder.out") == (FLOAT,) and len(options.forms("head")) == 3
    assert options.takes("encoder.a") and not options.takes("encoder.norm") and not options.takes("other")


@given(st.lists(st.tuples(st.text("abc.*_01", min_size=1), st.sampled_from(CHOICES)), max_size=6))
def test_bits_that_are_written_are_read_back(pairs):
    text = ", ".join(f"{name}={bits}" for name, bits in pairs)
    assert pinned_layers(text) == tuple(reversed(pairs))


def test_a_pattern_without_a_layer_is_named():
    assert unmatched("a.*=8, b=4, c", ("a.x", "c")) == ("b",)
    assert unmatched("", ("a",)) == ()


def test_pruning_and_thin_matrices_are_tried_where_they_are_asked_for():
    plain = QuantizationOptions(prune=0.6, low_rank=0.25, coding="plain").forms("a")
    assert [form.name for form in plain] == ["float", "int8", "prune-0.6", "low-rank-0.25", "kmeans-4"]
    coded = QuantizationOptions(prune=0.6, low_rank=0.25, bits=3)
    assert coded.files_coding == "huffman" and QuantizationOptions().files_coding == "plain"
    names = [form.name for form in coded.forms("a", "embedding")]
    assert names == [
        "float", "int8", "prune-0.6", "kmeans-4", "kmeans-3", "kmeans-4-pruned-0.6", "kmeans-3-pruned-0.6",
    ]  # fmt: skip
    assert [form.name for form in QuantizationOptions(method="prune").forms("a")] == ["float", "prune-0.5"]
    assert [form.name for form in QuantizationOptions(method="low-rank").forms("a")] == ["float", "low-rank-0.25"]


def test_a_layer_can_be_given_a_method_that_has_no_bits():
    options = QuantizationOptions(layers="*=prune, head=low-rank", prune=0.7)
    assert options.forms("a") == (Form("prune", 32, "row", 0.7),) and options.forms("a")[0].choice == "prune"
    assert options.forms("head") == (Form("low-rank", 32, "row", 0.25),)


@given(st.floats(0.05, 0.95), st.integers(1, 300), st.integers(1, 300))
def test_thin_matrices_take_their_share_of_the_bytes_and_pruned_weights_what_is_kept(share, rows, columns):
    thin = Form("low-rank", 32, "row", share)
    most = max(4 * rows * columns * share, 4 * (rows + columns))
    assert 4 * (rows + columns) <= thin.predicted_bytes(rows, columns) <= most + 1e-6
    kept = (1 - share) * rows * columns
    assert 6 * kept <= Form("prune", 32, "row", share).predicted_bytes(rows, columns) <= 6 * (kept + 1) + 8 * (rows + 1)


@given(st.floats(0.01, 0.99), st.sampled_from((2, 3, 4)))
def test_a_pruned_codebook_takes_no_more_bits_than_its_codes_and_at_least_one(sparsity, bits):
    plain, pruned = Form("kmeans", bits), Form("kmeans", bits, "row", sparsity)
    assert plain.predicted_bytes(64, 64) >= pruned.predicted_bytes(64, 64) >= Form("kmeans", 1).predicted_bytes(64, 64)


@pytest.mark.parametrize("form", [FLOAT, *forms_of_method("auto", 1, "row"), Form("bfloat16", 16)])
@pytest.mark.parametrize("shape", [(1, 1), (7, 129), (384, 1536)])
def test_predicted_bytes_are_at_least_the_codes_and_fall_with_the_bits(form, shape):
    elements = shape[0] * shape[1]
    assert elements * form.bits / 8 <= form.predicted_bytes(*shape) <= elements * form.bits / 8 + 21 * shape[0]


def test_a_group_has_a_codebook_of_its_own():
    assert Form("kmeans", 4, "group").predicted_bytes(3, 130) == 195 + 3 * 3 * 20
    assert Form("kmeans", 4, "tensor").predicted_bytes(3, 130) == 195 + 20
