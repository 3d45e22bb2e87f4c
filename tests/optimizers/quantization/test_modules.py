from __future__ import annotations

import copy
import io
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from analyzer.errors import HotbenchError
from kernels.quantized.cpu_features import CAP
from optimizers.plan import Refusal
from optimizers.quantization.compressed import BFLOAT16, CODEBOOK, GROUPED_CODEBOOK, INT8, INT8_WEIGHT_ONLY
from optimizers.quantization.modules.base import dense
from optimizers.quantization.modules.prepare import kinds
from optimizers.quantization.modules.replace import replaced, takes
from optimizers.quantization.op_linear import linear_op
from tests.optimizers.quantization.weights import FORMS, compressed, of_parameters

PACKED = (INT8, INT8_WEIGHT_ONLY, CODEBOOK, GROUPED_CODEBOOK, BFLOAT16)


def swapped(module: nn.Module, method: str, activations: str = "dynamic", **options: Any) -> nn.Module:
    found = replaced(module, of_parameters(module, method, **options), activations)
    assert isinstance(found, nn.Module), found
    return found


def exact(module: nn.Module, method: str, **options: Any) -> nn.Module:
    """Return torch's own layer with the weights that the compressed ones stand for."""
    weights = of_parameters(module, method, **options)
    return dense(module, {name: torch.from_numpy(weight.dequantised()) for name, weight in weights.items()})


@pytest.mark.parametrize("method", FORMS)
@pytest.mark.parametrize("shape", [(3, 37), (2, 5, 37), (37,), (0, 37)])
@torch.inference_mode()
def test_a_linear_layer_computes_with_the_weights_that_the_compressed_ones_stand_for(
    method: str, shape: tuple[int, ...]
) -> None:
    layer = nn.Linear(37, 71, bias=shape != (3, 37))
    x = torch.randn(shape)
    got, expected = swapped(layer, method)(x), exact(layer, method)(x)
    assert got.shape == expected.shape
    # rounding activations to a byte moves a sum of 37 products by about a hundredth of its size
    tolerance = {INT8: 0.02, CODEBOOK: 0.02, GROUPED_CODEBOOK: 0.02, BFLOAT16: 0.01}.get(method, 1e-5)
    assert torch.allclose(got, expected, atol=tolerance * float(expected.abs().max()) if got.numel() else 0.0)
    if method in (INT8, CODEBOOK, GROUPED_CODEBOOK, INT8_WEIGHT_ONLY):
        floats = swapped(layer, method, "float")(x)
        assert torch.allclose(floats, expected, atol=1e-5)


@torch.inference_mode()
def test_codebooks_give_the_same_bits_through_every_kind_that_rounds_activations() -> None:
    layer, x = nn.Linear(50, 66), torch.randn(9, 50)
    weights = of_parameters(layer, CODEBOOK, bits=3)
    assert kinds(weights["weight"]) == (CODEBOOK, "codebook-float-3", INT8, INT8_WEIGHT_ONLY, "float32")
    small, wide = (replaced(layer, weights, chosen={"weight": kind}) for kind in (CODEBOOK, INT8))
    assert isinstance(small, nn.Module) and isinstance(wide, nn.Module)
    assert torch.equal(small(x), wide(x)) and not torch.equal(small(x), layer(x))


@torch.inference_mode()
def test_codebooks_stay_packed_where_activations_stay_float() -> None:
    layer = nn.Linear(512, 64, bias=False)
    sizes = [
        sum(buffer.nbytes for buffer in swapped(layer, CODEBOOK, "float", bits=bits).buffers()) for bits in (4, 2, 1)
    ]
    # beside the codes a row has a table of 16 bytes, a scale, and a number that codebooks of bytes need
    assert sizes == [64 * (512 * bits // 8 + 24) for bits in (4, 2, 1)]


@pytest.mark.parametrize("method", PACKED)
@torch.inference_mode()
def test_float64_inputs_are_answered_in_float64_without_rounding(method: str) -> None:
    layer, x = nn.Linear(33, 20), torch.randn(4, 33, dtype=torch.float64)
    got = swapped(layer, method).double()(x)
    assert got.dtype is torch.float64
    assert torch.allclose(got, exact(layer, method).double()(x), rtol=0, atol=1e-12)


@pytest.mark.parametrize("method", PACKED)
@torch.inference_mode()
def test_copies_pickles_and_state_dicts_give_the_same_bits(method: str) -> None:
    layer, x = nn.Linear(40, 30), torch.randn(3, 40)
    first = swapped(layer, method)
    expected = first(x)
    stored = io.BytesIO()
    torch.save(first.state_dict(), stored)
    stored.seek(0)
    other = swapped(nn.Linear(40, 30), method)
    assert not torch.equal(other(x), expected)
    other.load_state_dict(torch.load(stored))
    for again in (other, copy.deepcopy(first), pickle.loads(pickle.dumps(first))):
        assert torch.equal(again(x), expected)


@pytest.mark.parametrize("method", [INT8, GROUPED_CODEBOOK])
@torch.inference_mode()
def test_processors_without_vector_instructions_run_a_portable_kernel_and_say_so(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer, x = nn.Linear(37, 65), torch.randn(5, 37)
    expected = swapped(layer, method)(x)
    monkeypatch.setenv(CAP, "")
    portable = swapped(layer, method)
    assert portable.kernel == "portable" and "the processor has no avx512" in str(portable.reason)
    assert torch.equal(portable(x), expected)


CONVOLUTIONS = pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Conv2d(3, 5, (3, 2), stride=(2, 1), padding=(1, 2), dilation=(1, 2)), (2, 3, 9, 11)),
        (nn.Conv2d(4, 6, 1, stride=2), (4, 8, 9)),
        (nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect", bias=False), (1, 4, 8, 9)),
        (nn.Conv1d(3, 5, 3, padding="same"), (2, 3, 17)),
        (nn.Conv1d(3, 5, 4, stride=3, padding_mode="circular", padding=2), (3, 20)),
        (nn.Conv2d(4, 8, 3, groups=2), (1, 4, 7, 7)),
    ],
    ids=["dilated", "pointwise", "reflected", "same", "circular", "grouped"],
)


@CONVOLUTIONS
@torch.inference_mode()
def test_convolutions_are_products_with_patches(layer: nn.Module, shape: tuple[int, ...]) -> None:
    x = torch.randn(shape)
    got, expected = swapped(layer, INT8_WEIGHT_ONLY)(x), exact(layer, INT8_WEIGHT_ONLY)(x)
    assert got.shape == expected.shape and got.is_contiguous()
    assert torch.allclose(got, expected, atol=1e-5)


@pytest.mark.parametrize("method", [INT8, CODEBOOK])
@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Conv2d(3, 5, (3, 2), stride=(2, 1), padding=(1, 2), dilation=(1, 2)), (2, 3, 9, 41)),
        (nn.Conv2d(5, 70, 3, padding=1), (2, 5, 13, 14)),
        (nn.Conv2d(4, 6, 1, stride=2), (3, 4, 17, 19)),
        (nn.Conv2d(67, 3, 1, bias=False), (1, 67, 9, 11)),
        (nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect"), (1, 4, 4, 3)),
        (nn.Conv1d(3, 5, 4, stride=3, padding_mode="circular", padding=2), (3, 3, 220)),
        (nn.Conv2d(2, 3, 3), (0, 2, 5, 5)),
    ],
    ids=["dilated", "usual", "strided pointwise", "pointwise", "tiny", "line", "empty"],
)
@torch.inference_mode()
def test_convolutions_of_bytes_give_the_bits_of_products_with_patches(
    layer: Any, shape: tuple[int, ...], method: str
) -> None:
    module: Any = swapped(layer, method)
    x = torch.randn(shape)
    if x.numel():
        x.view(-1)[int(torch.randint(x.numel(), ()))] = float("nan")
    got = module(x)
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    padded = nn.functional.pad(x, module.padding, mode) if x.numel() else x
    padded = padded if x.dim() == 4 else padded.unsqueeze(2)
    pairs = [(1, *size) if len(size) == 1 else size for size in (layer.kernel_size, layer.dilation, layer.stride)]
    rows = nn.functional.unfold(padded, pairs[0], pairs[1], 0, pairs[2]).transpose(1, 2)
    weights = (module.panels, module.scales, module.sums, module.tables, None, module.bias)
    product = linear_op(rows, *weights, method, module.out_features, module.in_features, 0, "none")
    expected = product.transpose(1, 2).reshape(got.shape)
    assert torch.equal(got.isnan(), expected.isnan()) and torch.equal(got.nan_to_num(), expected.nan_to_num())
    double = torch.randn(shape, dtype=torch.float64)
    if x.numel():
        assert torch.allclose(module.double()(double), exact(layer, method).double()(double), rtol=0, atol=1e-12)


@pytest.mark.parametrize("method", [INT8, CODEBOOK])
@torch.inference_mode()
def test_two_threads_convolve_to_the_same_bits(method: str) -> None:
    module, x = swapped(nn.Conv2d(20, 70, 3, padding=1), method), torch.randn(3, 20, 21, 23)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        two = module(x)
        torch.set_num_threads(1)
        assert torch.equal(module(x), two)
    finally:
        torch.set_num_threads(before)


@torch.inference_mode()
def test_convolutions_refuse_in_one_line() -> None:
    module: Any = swapped(nn.Conv2d(2, 3, 3, bias=False), INT8)
    op, arrays = torch.ops.hotbench.quantized_convolution, (module.panels, module.scales, module.sums, None, None)
    x = torch.randn(1, 2, 5, 5)
    assert torch.equal(op(x, *arrays, "int8", 3, [3, 3], [1, 1], [1, 1], [0, 0, 0, 0]), module(x))
    for call, message in (
        (lambda: module(torch.randn(1, 2, 2, 5)), r"an image of \[2, 5\] is smaller than the kernel \[3, 3\]"),
        (
            lambda: op(torch.randn(1, 4, 5, 5), *arrays, "int8", 3, [3, 3], [1, 1], [1, 1], [0] * 4),
            r"panels is int8 \[1, 8, 64, 4\].*need contiguous int8 \[1, 12",
        ),
        (lambda: module(x.half()), "x is float16 on cpu; this quantized convolution takes float32"),
        (lambda: op(x, *arrays, "bfloat16", 3, [3, 3], [1, 1], [1, 1], [0] * 4), "with 'bfloat16' weights are not kn"),
        (lambda: op(x, *arrays, "int8", 3, [3, 3], [0, 1], [1, 1], [0] * 4), r"stride \[0, 1\].*at least 1 each"),
        (lambda: op(x[0], *arrays, "int8", 3, [3, 3], [1, 1], [1, 1], [0] * 4), r"x is \[2, 5, 5\]; .* \[batch, "),
    ):
        with pytest.raises(HotbenchError, match=message) as caught:
            call()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("method", [INT8, CODEBOOK, BFLOAT16])
@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Conv2d(3, 5, 1), (2, 4, 5, 5)),
        (nn.Conv2d(3, 5, 1), (2, 2, 5, 5)),
        (nn.Conv2d(3, 5, 2), (7, 7)),
        (nn.Conv1d(4, 5, 3), (2, 5, 9)),
        (nn.Conv1d(4, 5, 3), (3, 9)),
        (nn.Conv1d(4, 5, 3), (1, 2, 4, 9)),
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@torch.inference_mode()
def test_convolutions_of_other_channels_are_errors_in_one_line(
    layer: nn.Module, shape: tuple[int, ...], method: str, dtype: torch.dtype
) -> None:
    # 3 and 4 channels take the same bytes, with the padding behind them
    message = r"x is \[.*\]; this quantized convolution takes \[[34], .* or a batch of it"
    with pytest.raises(HotbenchError, match=message):
        swapped(layer, method)(torch.randn(shape, dtype=dtype))


@pytest.mark.parametrize("method", PACKED)
@pytest.mark.parametrize("bits", [1, 3, 4])
@torch.inference_mode()
def test_an_embedding_gives_exactly_the_rows_of_its_table(method: str, bits: int) -> None:
    layer = nn.Embedding(23, 37, padding_idx=2)
    ids = torch.randint(0, 23, (3, 4))
    table = torch.from_numpy(compressed(method, layer.weight, bits).dequantised())
    small = swapped(layer, method, bits=bits)
    assert torch.equal(small(ids), table[ids])
    assert torch.equal(small(ids.int()[:0]), table[ids[:0]])
    assert torch.equal(small.double()(ids), table.double()[ids])


@torch.inference_mode()
def test_one_codebook_for_a_whole_table_is_one_codebook() -> None:
    layer, ids = nn.Embedding(20, 8), torch.tensor([0, 19])
    small = swapped(layer, CODEBOOK, bits=2, shared=True)
    assert tuple(small.tables.shape) == (1, 1, 4)  # type: ignore[union-attr, arg-type]
    table = compressed(CODEBOOK, layer.weight, 2, shared=True).dequantised()
    assert np.array_equal(small(ids).numpy(), table[ids.numpy()])


def test_what_cannot_be_replaced_is_refused_in_one_line() -> None:
    layer = nn.Linear(4, 4)
    weights = of_parameters(layer, INT8)
    attention = nn.MultiheadAttention(4, 2)
    cases: list[tuple[Any, Any, dict[str, Any], str]] = [
        (attention.out_proj, weights, {}, "MultiheadAttention reads the weight of its out_proj"),
        (nn.Bilinear(2, 2, 2), weights, {}, "a torch Bilinear has no quantized form; those that have: .*nn.Linear"),
        (nn.Linear(4, 5), weights, {}, r"the compressed weight is \[4, 4\]; the layer's is \[5, 4\]"),
        (nn.Linear(4, 4).half(), weights, {}, "weight is float16 on cpu"),
        (layer, {"wait": weights["weight"]}, {}, "has no parameter 'wait'"),
        (layer, {}, {}, "no compressed weights"),
        (layer, weights, {"activations": "int4"}, "activations 'int4' are not known"),
        (layer, weights, {"chosen": {"weight": "bfloat16"}}, "no product of the kind 'bfloat16'; use one of int8"),
        (nn.Embedding(4, 4, max_norm=1.0), weights, {}, "max_norm rewrites its rows"),
    ]
    for module, given, options, message in cases:
        found = replaced(module, given, **options)
        assert isinstance(found, Refusal) and "\n" not in found.reason
        with pytest.raises(AssertionError, match=message):
            raise AssertionError(found.reason)
    normed = nn.utils.weight_norm(nn.Linear(4, 4))
    found = replaced(normed, weights)
    assert isinstance(found, Refusal) and "remove weight_norm" in found.reason
    assert takes(layer) == "" and takes(attention.out_proj)


def test_wrong_calls_are_errors_in_one_line() -> None:
    layer, table = swapped(nn.Linear(6, 4), INT8), swapped(nn.Embedding(5, 4), CODEBOOK)
    cases: list[tuple[Any, type[Exception], str]] = [
        (lambda: layer(torch.randn(2, 5)), HotbenchError, r"x is float32 \[2, 5\] on cpu.*takes float32 \[\.\.\., 6\]"),
        (lambda: layer(torch.randn(2, 6).half()), HotbenchError, "x is float16"),
        (lambda: layer(torch.tensor(1.0)), HotbenchError, r"x is float32 \[\]"),
        (lambda: layer(torch.randn(2, 6, requires_grad=True)), HotbenchError, "has no gradient; .*no_grad"),
        (lambda: copy.deepcopy(layer).half(), HotbenchError, "cannot go to cpu as float16"),
        (lambda: table(torch.tensor([1, 5])), IndexError, "has 5 rows; 5 is none of them"),
        (lambda: table(torch.tensor([-1])), IndexError, "-1 is none"),
        (lambda: table(torch.tensor([0.5])), HotbenchError, "ids are float32"),
    ]
    for call, kind, message in cases:
        with pytest.raises(kind, match=message) as caught:
            call()
        assert "\n" not in str(caught.value)


def test_ops_refuse_arrays_that_kernels_would_read_beyond() -> None:
    layer: Any = swapped(nn.Linear(6, 4, bias=False), INT8)
    x = torch.randn(1, 6)
    op = torch.ops.hotbench.quantized_linear

    def call(panels: torch.Tensor, rows: int, columns: int, kind: str = "int8", activation: str = "none") -> Any:
        sums = (layer.scales, layer.sums, None, None, None)
        return op(x[:, :columns], panels, *sums, kind, rows, columns, 0, activation)

    assert torch.equal(call(layer.panels, 4, 6), layer(x))
    for panels, rows, columns, kind, message in (
        (layer.panels[:, :2], 4, 6, "int8", r"panels is int8 \[1, 2, 64, 4\]"),
        (layer.panels, 400, 6, "int8", r"panels is int8 \[1, 4, 64, 4\]"),
        (layer.panels.float(), 4, 6, "int8", "panels is float32"),
        (layer.panels, 4, 6, "codebook", "codebook weights have 4 arrays"),
        (layer.panels, 4, 6, "int9", "'int9' are not known"),
    ):
        with pytest.raises(HotbenchError, match=message):
            call(panels, rows, columns, kind)
    with pytest.raises(HotbenchError, match="the activation 'elu' is not known"):
        call(layer.panels, 4, 6, activation="elu")


@torch.inference_mode()
def test_results_are_float32_whatever_the_default_dtype_is() -> None:
    layers = (nn.Linear(32, 64), nn.Conv2d(8, 5, 3, padding=1), nn.Embedding(7, 9), nn.GRU(8, 4))
    inputs = (torch.randn(2, 32), torch.randn(1, 8, 9, 9), torch.tensor([3, 1]), torch.randn(2, 1, 8))
    modules = [swapped(layer, INT8) for layer in layers]
    expected = [module(x) for module, x in zip(modules, inputs, strict=True)]
    torch.set_default_dtype(torch.float64)
    try:
        got = [module(x) for module, x in zip(modules, inputs, strict=True)]
    finally:
        torch.set_default_dtype(torch.float32)
    for one, other in zip(got[:3], expected[:3], strict=True):
        assert one.dtype is torch.float32 and torch.equal(one, other)
    assert torch.equal(got[3][0], expected[3][0])


@torch.inference_mode()
def test_memory_that_changed_hands_is_read_anew() -> None:
    layer, x = nn.Linear(32, 64, bias=False), torch.randn(2, 32)
    module: Any = swapped(layer, INT8)
    before = module(x)
    module.panels.neg_()
    module.sums.neg_()
    assert torch.equal(module(x), -before)


@torch.inference_mode()
def test_forward_hooks_stay_where_they_were() -> None:
    layer = nn.Linear(4, 4)
    seen: list[torch.Tensor] = []
    layer.register_forward_hook(lambda module, args, result: seen.append(result))
    result = swapped(layer, INT8)(torch.randn(1, 4))
    assert len(seen) == 1 and seen[0] is result
