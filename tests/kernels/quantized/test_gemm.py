"""Products with small batches: the CPU twin against exact integers, bytes against the CPU's kernels, the launchers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.cuda.kernel import run_twin
from kernels.cuda.launch import ArgumentError
from kernels.quantized import activation_bytes
from kernels.quantized.activation_bytes import ActivationBytes, print_bytes, unpacked_bytes
from kernels.quantized.device_product import DeviceProduct, DeviceWeights, Step, steps
from kernels.quantized.gemm import BytesLauncher, Launcher, default_warps, possible_warps, reference
from kernels.quantized.gemm_shape import LARGEST_COLUMNS, ByteRows, SmallGemm, tiles_of
from kernels.quantized.gemm_source import print_gemm
from kernels.quantized.product import ProductError
from tests.kernels.device_stand_in import Recorder, device_array, launch_on_the_host

ADDRESSES = (256, 512, 1024, 2048, 4096, 8192, 16384)


def test_sums_at_their_extremes_are_exact() -> None:
    product = SmallGemm(2, LARGEST_COLUMNS, 1)
    arrays = [np.zeros(operand.elements, operand.dtype) for operand in product.operands(1)]
    arrays[0].view(np.int8)[:], arrays[2][:], arrays[4][:] = -128, 1.0, 1.0
    order = product.packing.column_order()
    arrays[1].view(np.uint8)[: order.size][order < LARGEST_COLUMNS] = 255
    run_twin(print_gemm(product)["wide"], (*arrays, 1))
    exact = -128 * 255 * LARGEST_COLUMNS
    assert arrays[-1].tolist() == [float(np.float32(exact))] * 2
    assert reference(product, 1, arrays)[-1].tolist() == [float(exact)] * 2


@settings(max_examples=3, deadline=None)
@given(
    columns=st.integers(1, 700),
    bits=st.sampled_from((4, 8)),
    inputs=st.sampled_from(activation_bytes.INPUTS),
    seed=st.integers(0, 2**32 - 1),
)
def test_bytes_stand_for_the_row_to_half_a_step(columns: int, bits: int, inputs: str, seed: int) -> None:
    shape, batch = ActivationBytes(ByteRows(columns, bits), inputs), 3
    values = np.random.default_rng(seed).standard_normal((batch, columns)).astype(np.float32)
    values[0] = np.abs(values[0]) + 5
    given_values = values.astype(np.float16).view(np.uint16) if inputs == "float16" else values
    if inputs == "bfloat16":
        given_values = (values.view(np.uint32) >> 16).astype(np.uint16)
    arrays = [np.zeros(operand.elements, operand.dtype) for operand in shape.operands(batch)]
    arrays[0][:] = given_values.ravel()
    run_twin(print_bytes(shape)["wide"], (*arrays, batch))
    wanted = activation_bytes.reference(shape, batch, arrays[0])
    assert all(np.array_equal(got, want) for got, want in zip(arrays[1:], wanted, strict=True))
    scales, zeros = arrays[2][:, None], arrays[3][:, None]
    back = (unpacked_bytes(shape.rows, arrays[1]).astype(np.float64) - zeros) * scales
    if inputs == "float32":
        assert (np.abs(back - values) <= 0.501 * scales).all()
    # Padding is zeros, so that weights there never count.
    assert int(arrays[1].view(np.uint8).astype(np.int64).sum()) == int(
        unpacked_bytes(shape.rows, arrays[1]).astype(np.int64).sum()
    )


def test_a_row_that_is_not_finite_has_no_scale_and_the_others_keep_theirs() -> None:
    shape = ActivationBytes(ByteRows(37, 8))
    x = np.random.default_rng().standard_normal((4, 37)).astype(np.float32)
    x[1, 3], x[2, 0] = math.nan, -math.inf
    arrays = [np.zeros(operand.elements, operand.dtype) for operand in shape.operands(4)]
    arrays[0][:] = x.ravel()
    run_twin(print_bytes(shape)["scalar"], (*arrays, 4))
    assert np.isnan(arrays[2]).tolist() == [False, True, True, False]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"weights": "int4"}, "weights 'int4' is not known; use one of int8, codebook"),
        ({"scope": "group"}, "scope 'group' is not known; use one of row, tensor"),
        ({"activation": "tanh"}, "activation 'tanh' is not known; use one of none, relu, gelu, gelu_tanh, silu"),
        ({"rows": 0}, "a matrix of 0 x 64 has no elements; give at least 1 x 1"),
        ({"columns": LARGEST_COLUMNS + 1}, f"may leave int32; use at most {LARGEST_COLUMNS} columns"),
        ({"tiles": 9}, "9 tiles of 8 vectors are not computed at once; use 1 to 8"),
        ({"scope": "tensor"}, "int8 weights have a scale for each row, not for the tensor; use scope 'row'"),
    ],
)
def test_a_product_that_is_not_computed_is_refused_in_words(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ProductError, match=message):
        SmallGemm(**({"rows": 8, "columns": 64} | arguments))  # type: ignore[arg-type]


def test_a_batch_that_its_tiles_do_not_hold_is_refused() -> None:
    with pytest.raises(ProductError, match="a batch of 17 is not computed by 2 tiles; use 1 to 16"):
        SmallGemm(8, 64, 2).operands(17)
    with pytest.raises(ProductError, match="3 warps for 16 rows; use one of 1, 2, 4, 8"):
        print_gemm(SmallGemm(8, 64), 3)


def test_few_kernels_serve_all_batches_and_warps_share_rows_where_there_are_few() -> None:
    assert sorted({tiles_of(batch) for batch in range(1, 65)}) == [1, 2, 3, 4, 6, 8]
    assert all(8 * tiles_of(batch) >= batch for batch in range(1, 65))
    assert default_warps(SmallGemm(65536, 4096)) == 1
    assert default_warps(SmallGemm(4096, 4096)) == 8 and default_warps(SmallGemm(384, 384)) == 4
    assert default_warps(SmallGemm(16, 64)) == 1 and possible_warps(SmallGemm(16, 384)) == (1, 2, 4)


def test_the_launcher_takes_the_form_that_the_addresses_allow_and_hands_on_the_batch(recorder: Recorder) -> None:
    launcher = Launcher(SmallGemm(40, 64, 2), 1)
    assert launcher.launch(ADDRESSES, 9, 0) == "wide"
    assert launcher.launch((260, *ADDRESSES[1:]), 16, 7) == "scalar"
    assert recorder.launches == [(1, 256, 0, (*ADDRESSES, 9)), (1, 256, "stream 7", (260, *ADDRESSES[1:], 16))]
    assert BytesLauncher(ActivationBytes(ByteRows(64, 8))).launch(ADDRESSES[:4], 9, 0) == "wide"
    assert recorder.launches[-1][:2] == (9, 256)


def test_an_argument_that_does_not_fit_is_refused_by_name(recorder: Recorder) -> None:
    arguments: list[object] = list(ADDRESSES)
    arguments[1] = device_array(3 * 64 - 4, "|u1")
    with pytest.raises(ArgumentError, match="buffer x needs 48 elements, not 47"):
        Launcher(SmallGemm(8, 64)).launch(arguments, 3, 0)
    assert not recorder.launches


def test_the_number_of_vectors_decides_which_kernels_take_them() -> None:
    dynamic, plain = DeviceWeights(8, 64), DeviceWeights(8, 64, activations="float")
    assert steps(dynamic, 0) == [] and steps(plain, 0) == []
    assert steps(dynamic, 1) == [Step("bytes", 0, 1), Step("gemm", 0, 1)]
    assert steps(dynamic, 130)[1:] == [Step("gemm", 0, 64), Step("gemm", 64, 64), Step("gemm", 128, 2)]
    assert steps(plain, 1) == [Step("gemv", 0, 1)]
    assert steps(plain, 19) == [Step("gemv", 0, 8), Step("gemv", 8, 8), Step("gemv", 16, 3)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"activations": "int4"}, "activations 'int4' are not known; use one of dynamic, float"),
        ({"activations": "float", "activation": "gelu"}, "does not apply 'gelu'; apply it afterwards"),
        ({"weights": "codebook", "group": 64}, "codebooks of 64 columns take float activations"),
        ({"inputs": "float64"}, "inputs 'float64' cannot become bytes"),
        ({"activations": "float", "weights": "codebook", "scope": "group", "group": 48}, "a group of 48 columns"),
    ],
)
def test_weights_that_no_kernel_takes_are_refused_in_words(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ProductError, match=message):
        DeviceWeights(8, 64, **arguments)  # type: ignore[arg-type]


def test_each_launch_is_given_its_vectors(recorder: Recorder) -> None:
    plain = DeviceProduct(DeviceWeights(8, 64, activations="float", bias=True))
    plain.launch({"weights": 256, "scales": 512, "bias": 768}, 1024, 9, 65536, 0, 0)
    assert [launch[3] for launch in recorder.launches] == [
        (256, 1024, 512, 768, 65536),
        (256, 1024 + 8 * 64 * 4, 512, 768, 65536 + 8 * 8 * 4),
    ]
    recorder.launches.clear()
    dynamic = DeviceProduct(DeviceWeights(8, 64))
    words, scales = 67 * 64, 272  # 67 floats, in whole sixteens of bytes
    assert dynamic.workspace_bytes(67) == words + 2 * scales
    dynamic.launch({"weights": 256, "scales": 512, "sums": 768}, 1024, 67, 65536, 8192, 0)
    places = (8192, 8192 + words, 8192 + words + scales)
    assert [launch[3] for launch in recorder.launches] == [
        (1024, *places, 67),
        (256, *places, 512, 768, 65536, 64),
        (256, 8192 + 64 * 64, places[1] + 256, places[2] + 256, 512, 768, 65536 + 64 * 8 * 4, 3),
    ]


@pytest.fixture
def twins(monkeypatch: pytest.MonkeyPatch) -> None:
    launch_on_the_host(monkeypatch)


@pytest.mark.parametrize(
    ("weights", "batch"),
    [
        (DeviceWeights(19, 70, bias=True, activation="relu"), 67),
        (DeviceWeights(5, 130, "codebook", "tensor", inputs="float16"), 3),
    ],
    ids=str,
)
def test_any_number_of_vectors_is_multiplied(twins: None, weights: DeviceWeights, batch: int) -> None:
    random, product = np.random.default_rng(), DeviceProduct(weights)
    shape = (weights.rows, weights.columns)
    codebook = weights.weights == "codebook"
    codes = random.integers(0, 16, shape) if codebook else random.integers(-127, 128, shape)
    tables = random.integers(-127, 128, 16).astype(np.int8)
    integers = tables[codes].astype(np.int64) if codebook else codes
    arrays = {
        "weights": weights.packing.pack(codes),
        "tables": tables,
        "scales": random.uniform(0.5, 1.5, weights.rows).astype(np.float32) / 512,
        "sums": integers.sum(axis=1).astype(np.int32),
        "bias": random.standard_normal(weights.rows).astype(np.float32),
    }
    x = random.standard_normal((batch, weights.columns)).astype(weights.inputs)
    y = np.full((batch, weights.rows), np.nan, np.float32)
    workspace = np.zeros(product.workspace_bytes(batch) + 16, np.uint8)
    start = workspace.ctypes.data + -workspace.ctypes.data % 16
    addresses = {name: arrays[name].ctypes.data for name in weights.arrays}
    product.launch(addresses, x.ctypes.data, batch, y.ctypes.data, start, 0)
    wanted = x.astype(np.float64) @ (integers * arrays["scales"].astype(np.float64)[:, None]).T
    wanted = np.maximum(wanted + arrays["bias"], 0) if weights.bias else wanted
    # Half a step of the bytes for each product, at most.
    step = (x.max(axis=1) - x.min(axis=1)).astype(np.float64)[:, None] / 254
    slack = 0.51 * step * (np.abs(integers).sum(axis=1) * arrays["scales"]) + 1e-4
    assert (np.abs(y - wanted) <= slack).all()
    assert np.abs(y - wanted).max() > 0
