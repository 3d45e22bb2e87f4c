from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.cuda import kernel as cuda_kernel
from kernels.cuda import support as cuda_support
from kernels.cuda.launch import ArgumentError
from kernels.quantized.gemv import Launcher, default_tuning, possible_tunings, reference
from kernels.quantized.product import INT32_COLUMNS, ProductError, QuantizedProduct
from kernels.quantized.source import Tuning, print_quantized
from tests.cuda.case import assert_guards, guarded
from tests.kernels.device_stand_in import Recorder

FLOAT32_STEP = 2.0**-24


def drawn(product: QuantizedProduct, seed: int | None = None) -> dict[str, np.ndarray]:
    """Return fresh arrays for a product by operand, all bits of the weights random, padding too."""
    random = np.random.default_rng(seed)
    arrays = {}
    for operand in product.operands():
        arrays[operand.name] = guarded(operand.dtype, operand.elements)
        if operand.written:
            continue
        if operand.dtype == "float32":
            arrays[operand.name][:] = random.standard_normal(operand.elements)
        else:
            arrays[operand.name][:] = random.integers(0, 2**32, operand.elements)
    if product.inputs in ("float16", "bfloat16"):
        half = torch.from_numpy(random.standard_normal(arrays["x"].size)).to(getattr(torch, product.inputs))
        arrays["x"][:] = half.view(torch.int16).numpy().view(np.uint16)
    if product.is_integer:
        arrays["x"].view(np.int8).reshape(product.batch, -1)[:, product.columns :] = 0
    return arrays


def run(product: QuantizedProduct, tuning: Tuning, arrays: dict[str, np.ndarray], form: str = "wide") -> np.ndarray:
    """Return y [batch, rows] of the CPU twin."""
    cuda_kernel.run_twin(print_quantized(product, tuning)[form], tuple(arrays.values()))
    for name, array in arrays.items():
        assert_guards(name, array)
    return arrays["y"].reshape(product.batch, product.rows)


def assert_near(product: QuantizedProduct, arrays: dict[str, np.ndarray], y: np.ndarray) -> None:
    """Fail where a sum is further from float64's than its own rounding explains."""
    wanted = reference(product, tuple(arrays.values()))[-1].reshape(y.shape)
    magnitudes = {name: np.abs(array) if array.dtype == np.float32 else array for name, array in arrays.items()}
    if product.weights == "int8":
        words = np.abs(product.packing.unpack(arrays["weights"].reshape(product.rows, -1)).astype(np.int16))
        magnitudes["weights"] = product.packing.pack(np.minimum(words, 127))
    if product.inputs in ("float16", "bfloat16"):
        magnitudes["x"] = arrays["x"] & np.uint16(0x7FFF)
    largest = reference(product, tuple(magnitudes.values()))[-1].reshape(y.shape)
    # A chain has columns / 32 lanes / chains roundings, then the lanes and the scale: far fewer than the columns.
    steps = 12 + product.columns / 16
    assert (np.abs(y - wanted) <= steps * FLOAT32_STEP * 1.01 * largest).all()


SCOPES = st.sampled_from(
    (("int8", "row", 0), ("codebook", "row", 0), ("codebook", "tensor", 0), ("codebook", "group", 32))
)


@settings(max_examples=5, deadline=None)
@given(
    scope=SCOPES,
    rows=st.integers(1, 9),
    columns=st.integers(1, 1200),
    batch=st.integers(1, 2),
    inputs=st.sampled_from(("float32", "float16", "bfloat16")),
    bias=st.booleans(),
    tuning=st.builds(Tuning, st.sampled_from((1, 2)), st.sampled_from((1, 2, 8))),
    form=st.sampled_from(("wide", "scalar")),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_product_is_right_to_its_rounding(
    scope: tuple[str, str, int],
    rows: int,
    columns: int,
    batch: int,
    inputs: str,
    bias: bool,
    tuning: Tuning,
    form: str,
    seed: int,
) -> None:
    weights, whose, group = scope
    product = QuantizedProduct(rows, columns, batch, weights, inputs, whose, group, bias)
    arrays = drawn(product, seed)
    assert_near(product, arrays, run(product, tuning, arrays, form))


def test_the_forms_agree_to_the_bit() -> None:
    product = QuantizedProduct(5, 371, weights="codebook", bias=True)
    arrays = drawn(product)
    first = run(product, Tuning(2), arrays).copy()
    assert first.tobytes() == run(product, Tuning(2), arrays, "scalar").tobytes()


def test_a_large_product_is_right_to_its_rounding() -> None:
    product = QuantizedProduct(257, 8191, weights="codebook")
    arrays = drawn(product)
    assert_near(product, arrays, run(product, default_tuning(product), arrays))


def test_integers_at_their_extremes_are_exact() -> None:
    product = QuantizedProduct(2, INT32_COLUMNS, inputs="int8")
    arrays = drawn(product)
    arrays["weights"][:] = 0x80808080
    arrays["x"].view(np.int8)[:] = -128
    arrays["x"].view(np.int8)[product.columns :] = 0
    assert run(product, Tuning(1), arrays).tolist() == [[128**2 * INT32_COLUMNS] * 2]


def test_the_padding_of_weights_never_counts() -> None:
    # 0 times what lies in the padding would be NaN here: the codebook's own last entry, chosen by no column.
    product = QuantizedProduct(3, 37, weights="codebook")
    arrays = drawn(product)
    codes = np.random.default_rng().integers(0, 15, (3, 64))
    codes[:, 37:] = 15
    whole = QuantizedProduct(3, 64, weights="codebook")
    arrays["weights"][:] = whole.packing.pack(codes).ravel()
    arrays["codebook"][15::16] = np.nan
    y = run(product, Tuning(2), arrays)
    assert np.isfinite(y).all()
    assert_near(product, arrays, y)


def test_nan_and_infinities_come_out_as_torch_has_them() -> None:
    product = QuantizedProduct(6, 531, batch=3)
    arrays = drawn(product)
    integers = np.random.default_rng().integers(-127, 128, (6, 531))
    integers[:, 517] = (0, 1, -1, 5, -5, 0)
    arrays["weights"][:] = product.packing.pack(integers).ravel()
    x = arrays["x"].reshape(3, 531)
    x[0, 517], x[1, 517], x[2, 530] = np.inf, -np.inf, np.nan
    y = run(product, Tuning(1), arrays)
    weights = torch.from_numpy(integers * arrays["scales"][:, None]).float()
    wanted = torch.nn.functional.linear(torch.from_numpy(x), weights)
    assert np.isinf(y).sum() == 8 and np.isnan(y).sum() == 10
    torch.testing.assert_close(torch.from_numpy(y), wanted, rtol=1e-5, atol=1e-4, equal_nan=True)


def test_the_reference_is_torchs_linear_and_leaves_its_arrays_as_they_are() -> None:
    product = QuantizedProduct(7, 130, batch=2, weights="codebook", scope="group", group=32, bias=True)
    arrays = drawn(product)
    before = {name: array.copy() for name, array in arrays.items()}
    codes = product.packing.unpack(arrays["weights"].reshape(7, -1))
    books = arrays["codebook"].reshape(7, 5, 16)
    weights = np.array([[books[n, k // 32, codes[n, k]] for k in range(130)] for n in range(7)])
    x, bias = torch.from_numpy(arrays["x"].reshape(2, 130)), torch.from_numpy(arrays["bias"])
    wanted = torch.nn.functional.linear(x.double(), torch.from_numpy(weights).double(), bias.double())
    y = reference(product, tuple(arrays.values()))[-1].reshape(2, 7)
    np.testing.assert_allclose(y, wanted.numpy(), rtol=1e-12)
    assert all(before[name].tobytes() == array.tobytes() for name, array in arrays.items())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rows": 0}, "a matrix of 0 x 64 has no elements"),
        ({"columns": 0}, "a matrix of 8 x 0 has no elements"),
        ({"batch": 9}, "a batch of 9 is not computed here; use 1 to 8"),
        ({"weights": "int4"}, "weights 'int4' is not known; use one of int8, codebook"),
        ({"inputs": "float64"}, "inputs 'float64' is not known"),
        ({"scope": "tensor"}, "int8 weights have a scale for each row, not for the tensor"),
        ({"weights": "codebook", "scope": "group", "group": 48}, "a group of 48 columns; use a power of two from 32"),
        ({"weights": "codebook", "scope": "group"}, "a group of 0 columns"),
        ({"weights": "codebook", "group": 64}, "a group of 64 columns needs scope 'group', not 'row'"),
        ({"weights": "codebook", "inputs": "int8"}, "int8 inputs need int8 weights, not 'codebook'"),
        ({"inputs": "int8", "bias": True}, "a product of integers adds no bias"),
        ({"inputs": "int8", "columns": INT32_COLUMNS + 1}, "131072 products may leave int32"),
    ],
)
def test_a_product_that_is_not_computed_is_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ProductError, match=message):
        QuantizedProduct(**({"rows": 8, "columns": 64} | arguments))  # type: ignore[arg-type]


@pytest.mark.parametrize("tuning", [(3, 1), (8, 1), (1, 3), (1, 16), (0, 1)])
def test_a_spread_that_the_kernel_lacks_is_refused(tuning: tuple[int, int]) -> None:
    with pytest.raises(ProductError, match="use 1, 2 or 4 rows and 1, 2, 4 or 8 warps"):
        Tuning(*tuning)


def test_codebooks_that_do_not_fit_shared_memory_are_refused() -> None:
    product = QuantizedProduct(64, 4096, weights="codebook", scope="group", group=32)
    with pytest.raises(ProductError, match="need 65536 bytes of shared memory, a block has 49152; use fewer rows"):
        Launcher(product, Tuning(4))
    assert {tuning.rows_per_warp for tuning in possible_tunings(product)} == {1, 2}
    assert all(Launcher(product, tuning).sources for tuning in possible_tunings(product))


def test_many_rows_share_inputs_and_few_rows_are_shared_by_warps() -> None:
    assert default_tuning(QuantizedProduct(8192, 8192)) == Tuning(2, 1)
    assert default_tuning(QuantizedProduct(8192, 8192, weights="codebook")) == Tuning(4, 1)
    assert default_tuning(QuantizedProduct(4096, 4096, weights="codebook")) == Tuning(2, 1)
    assert default_tuning(QuantizedProduct(1024, 4096)) == Tuning(1, 2)
    assert default_tuning(QuantizedProduct(10, 300)) == Tuning(1, 1)
    assert default_tuning(QuantizedProduct(16, 65536)) == Tuning(1, 8)


@settings(max_examples=200, deadline=None)
@given(
    rows=st.integers(1, 40000),
    columns=st.integers(1, 40000),
    batch=st.integers(1, 8),
    weights=st.sampled_from(("int8", "codebook")),
)
def test_no_warp_that_shares_a_row_is_without_a_tile(rows: int, columns: int, batch: int, weights: str) -> None:
    product = QuantizedProduct(rows, columns, batch, weights)
    tuning = default_tuning(product)
    assert tuning in possible_tunings(product)
    assert tuning.warps_per_row <= -(-columns // product.tile_columns)
    assert tuning.warps_per_row == 1 or tuning.rows_per_warp == 1


def device_array(dtype: str, *shape: int, address: int = 512, read_only: bool = False) -> SimpleNamespace:
    """Return what a launcher sees of a CUDA tensor."""
    interface = {"data": (address, read_only), "shape": shape, "typestr": dtype, "strides": None, "version": 2}
    return SimpleNamespace(__cuda_array_interface__=interface)


ADDRESSES = (256, 512, 1024, 2048)


def test_aligned_addresses_take_the_wide_form_and_others_the_scalar_one(recorder: Recorder) -> None:
    launcher = Launcher(QuantizedProduct(8, 64))
    assert launcher.launch(ADDRESSES, 0) == "wide"
    assert launcher.launch((260, *ADDRESSES[1:]), 0) == "scalar"
    assert launcher.launch((256, 516, *ADDRESSES[2:]), 0) == "scalar"
    assert launcher.launch((256, 512, 1028, 2052), 0x7F00) == "wide"
    assert [launch[2] for launch in recorder.launches] == [0, 0, 0, f"stream {0x7F00}"]


def test_inputs_of_many_rows_need_no_alignment_where_their_rows_have_none(recorder: Recorder) -> None:
    assert Launcher(QuantizedProduct(8, 63, batch=2)).launch((256, 516, 1024, 2048), 0) == "wide"
    assert Launcher(QuantizedProduct(8, 64, batch=2)).launch((256, 516, 1024, 2048), 0) == "scalar"
    assert Launcher(QuantizedProduct(8, 64, inputs="float16")).launch((256, 520, 1024, 2048), 0) == "wide"
    assert Launcher(QuantizedProduct(8, 64, inputs="float16")).launch((256, 514, 1024, 2048), 0) == "scalar"


def test_the_grid_gives_each_warp_its_rows_and_is_capped(recorder: Recorder) -> None:
    Launcher(QuantizedProduct(9, 64), Tuning(1)).launch(ADDRESSES, 0)
    Launcher(QuantizedProduct(9, 5000), Tuning(1, 8)).launch(ADDRESSES, 0)
    Launcher(QuantizedProduct(10**6, 64), Tuning(4)).launch(ADDRESSES, 0)
    assert [launch[:2] for launch in recorder.launches] == [(2, 256), (9, 256), (16, 256)]


def test_tensors_of_the_dtypes_that_torch_has_are_accepted(recorder: Recorder) -> None:
    scales, y = device_array("<f4", 8), device_array("<f4", 2, 8)
    for weights in (device_array("<u4", 8, 16), device_array("<i4", 8, 16), device_array("|i1", 8, 64)):
        for x, inputs in (("<f4", "float32"), ("<f2", "float16"), ("<i2", "bfloat16")):
            launcher = Launcher(QuantizedProduct(8, 64, batch=2, inputs=inputs))
            assert launcher.launch((weights, device_array(x, 2, 64), scales, y), 0) == "wide"
    integers = Launcher(QuantizedProduct(8, 60, batch=2, inputs="int8"))
    arguments = (device_array("<i4", 8, 16), device_array("|i1", 2, 64), device_array("<i4", 2, 8))
    assert integers.launch(arguments, 0) == "wide"


@pytest.mark.parametrize(
    ("place", "argument", "message"),
    [
        (0, device_array("<i4", 8, 15), "buffer weights needs 128 elements, not 120"),
        (0, device_array("<f4", 8, 16), "buffer weights needs uint32, not float32"),
        (1, device_array("<f4", 63), "buffer x needs 64 elements, not 63"),
        (1, device_array("<f8", 64), "buffer x needs float32, not float64"),
        (1, np.zeros(64, np.float32), "buffer x needs an address or a CUDA array, not ndarray"),
        (2, device_array("<f4", 7), "buffer scales needs 8 elements, not 7"),
        (3, device_array("<f4", 8, read_only=True), "buffer y is written, but its array is read-only"),
        (3, 1026, "no multiple of its element's size"),
    ],
)
def test_an_argument_that_does_not_fit_is_refused_by_name(
    recorder: Recorder, place: int, argument: object, message: str
) -> None:
    arguments: list[object] = list(ADDRESSES)
    arguments[place] = argument
    with pytest.raises(ArgumentError, match=message):
        Launcher(QuantizedProduct(8, 64)).launch(arguments, 0)
    assert not recorder.launches


def test_a_missing_argument_is_refused(recorder: Recorder) -> None:
    with pytest.raises(ArgumentError, match="3 arguments for 4 buffers"):
        Launcher(QuantizedProduct(8, 64)).launch(ADDRESSES[:3], 0)


def test_a_launch_without_device_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    none = cuda_support.CudaDescription(None, None, 0, None, "no CUDA driver answers")
    monkeypatch.setattr(cuda_support, "describe", lambda: none)
    with pytest.raises(cuda_support.CudaUnavailable, match="no CUDA driver answers"):
        Launcher(QuantizedProduct(8, 64)).prepare()
