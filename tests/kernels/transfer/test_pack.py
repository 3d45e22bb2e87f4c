"""Packing for a swap: what each format keeps and what it loses; the kernels' tiers are in tests/cuda."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.cuda import kernel as cuda_kernel
from kernels.cuda.launch import ArgumentError
from kernels.transfer import bfloat16 as pack_bfloat16
from kernels.transfer import int8 as pack_int8
from kernels.transfer import pack
from kernels.transfer.pack import BFLOAT16, FORMATS, INT8, LOSSLESS, Format, PackLauncher, PackPlan
from kernels.transfer.segment_table import HEADER, ROW, SegmentError
from tests.cuda.case import SPECIALS, assert_guards, guarded
from tests.kernels.device_stand_in import Recorder, device_array

LARGEST = np.finfo(np.float32).max
FORMAT = pytest.mark.parametrize("form", FORMATS.values(), ids=FORMATS)


def round_trip(form: Format, tensors: list[np.ndarray]) -> list[np.ndarray]:
    """Return the tensors as they come back, through both twins on host memory."""
    plan = PackPlan.of(form, [t.ctypes.data for t in tensors], [t.nbytes for t in tensors])
    staging = guarded("uint8", plan.staging_bytes)
    table = plan.pack_table()
    cuda_kernel.run_twin(form.pack, (table, 0, staging))
    assert_guards("staging", staging)
    back = [guarded("float32", t.size) for t in tensors]
    returned = PackPlan.of(form, [t.ctypes.data for t in back], [t.nbytes for t in back])
    table = returned.unpack_table()
    cuda_kernel.run_twin(form.unpack, (table, staging, 0))
    for tensor in back:
        assert_guards("tensor", tensor)
    return back


def bit_patterns(seed: int, elements: int) -> np.ndarray:
    """Return floats of every kind: random bits."""
    return np.random.default_rng(seed).integers(0, 2**32, elements, dtype=np.uint32).view(np.float32)


SEEDS = st.integers(0, 2**32 - 1)
COUNTS = st.lists(st.integers(0, 40) | st.integers(1000, 1100) | st.just(2048), max_size=5)


def test_lossy_formats_are_labelled_and_no_other_is() -> None:
    assert {name: form.lossy for name, form in FORMATS.items()} == {"lossless": False, "bfloat16": True, "int8": True}
    assert PackPlan.of(INT8, [16], [4]).lossy and not PackPlan.of(LOSSLESS, [16], [4]).lossy


@settings(deadline=None, max_examples=12)
@given(COUNTS, SEEDS)
def test_lossless_gives_every_bit_back(counts: list[int], seed: int) -> None:
    tensors = [bit_patterns(seed + k, count) for k, count in enumerate(counts)]
    for tensor, back in zip(tensors, round_trip(LOSSLESS, tensors), strict=True):
        assert tensor.tobytes() == back.tobytes()


@settings(deadline=None, max_examples=12)
@given(COUNTS, SEEDS)
def test_bfloat16_is_what_torch_rounds_to_and_nan_stays(counts: list[int], seed: int) -> None:
    tensors = [bit_patterns(seed + k, count) for k, count in enumerate(counts)]
    for tensor, back in zip(tensors, round_trip(BFLOAT16, tensors), strict=True):
        wanted = torch.from_numpy(tensor).to(torch.bfloat16).float()
        torch.testing.assert_close(torch.from_numpy(back.copy()), wanted, rtol=0, atol=0, equal_nan=True)
        assert np.array_equal(np.signbit(back), np.signbit(tensor))


def test_bfloat16_rounds_halves_to_even_and_overflows_to_infinity() -> None:
    bits = np.array([0x3F808000, 0x3F818000, 0x3F808001, 0x7F7FFFFF, 0x7F800001, 0x00008000, 0x80018000], np.uint32)
    codes = pack_bfloat16.reference(bits.view(np.float32))
    assert [hex(code) for code in codes] == ["0x3f80", "0x3f82", "0x3f81", "0x7f80", "0x7fc0", "0x0", "0x8002"]
    (back,) = round_trip(BFLOAT16, [bits.view(np.float32).copy()])
    assert np.array_equal(back.view(np.uint32) >> 16, codes)


@settings(deadline=None, max_examples=12)
@given(COUNTS, SEEDS, st.integers(-38, 38))
def test_int8_loses_at_most_half_a_scale(counts: list[int], seed: int, exponent: int) -> None:
    random = np.random.default_rng(seed)
    with np.errstate(over="ignore"):
        tensors = [
            np.clip((10.0**exponent * random.standard_normal(c)), -LARGEST, LARGEST).astype(np.float32) for c in counts
        ]
    for tensor, back in zip(tensors, round_trip(INT8, tensors), strict=True):
        for start in range(0, tensor.size, 1024):
            group = tensor[start : start + 1024].astype(np.float64)
            largest = np.abs(group).max()
            allowed = largest if largest < 2.0**-119 else largest / 254 * (1 + 1e-5)
            assert np.abs(group - back[start : start + 1024]).max() <= allowed


def test_int8_keeps_nan_and_infinities_and_the_finite_ones_beside_them() -> None:
    values = np.linspace(-3, 3, 2048).astype(np.float32)
    values[[5, 1030]] = np.nan
    values[[7, 9]] = np.inf, -np.inf
    (back,) = round_trip(INT8, [values])
    assert np.array_equal(np.isnan(back), np.isnan(values))
    assert np.array_equal(back[np.isinf(values)], [np.inf, -np.inf]) and np.isinf(back).sum() == 2
    finite = np.isfinite(values)
    error = np.abs(back[finite] - values[finite])
    assert error[:1020].max() <= 3 / 252 * (1 + 1e-5) and error[1020:].max() <= 3 / 254 * (1 + 1e-5)


@pytest.mark.parametrize(
    "values",
    [
        [np.nan] * 3,
        [np.inf, -np.inf, 0.0],
        [0.0, -0.0],
        [1e-45, -1e-40, 1e-37],
        [LARGEST, -LARGEST, 1.0],
        [LARGEST, np.inf, -np.inf, -LARGEST],
        [2.0**-119, -(2.0**-119)],
    ],
)
def test_int8_at_the_ends_of_the_range(values: list[float]) -> None:
    given_values = np.array(values, np.float32)
    (back,) = round_trip(INT8, [given_values])
    largest = np.abs(given_values[np.isfinite(given_values)]).max(initial=0)
    wanted = np.where((np.abs(given_values) <= largest) & (largest < 2.0**-119), 0, given_values)
    finite = np.isfinite(given_values)
    assert np.array_equal(back[~finite], wanted[~finite], equal_nan=True)
    assert np.isfinite(back[finite]).all()
    assert np.abs(back[finite].astype(np.float64) - wanted[finite]).max(initial=0) <= largest / 252 * (1 + 1e-5)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 3000), SEEDS)
def test_int8_codes_agree_with_the_float64_reference(elements: int, seed: int) -> None:
    values = bit_patterns(seed, elements)
    places = np.random.default_rng(seed).permutation(elements)[: min(elements, len(SPECIALS))]
    values[places] = SPECIALS[: places.size]
    codes, scales = pack_int8.reference(values)
    (back,) = round_trip(INT8, [values])
    with np.errstate(over="ignore"):
        wanted = pack_int8.unpack_reference(codes, scales)
        assert np.allclose(back, wanted.astype(np.float32), rtol=1e-6, atol=0, equal_nan=True)


def test_int8_needs_little_more_than_a_quarter() -> None:
    elements = 1 << 20
    assert pack_int8.packed_bytes(elements) == elements + 4 * 1024
    plan = PackPlan.of(INT8, [0], [4 * elements])
    assert plan.staging_bytes / (4 * elements) < 0.251


@FORMAT
@settings(max_examples=30)
@given(counts=COUNTS)
def test_packed_tensors_are_aligned_and_apart(form: Format, counts: list[int]) -> None:
    plan = PackPlan.of(form, [16 * k for k in range(len(counts))], [4 * count for count in counts])
    sizes = [form.packed_bytes(4 * count // form.item_bytes) for count in counts]
    ends = [offset + size for offset, size in zip(plan.offsets, sizes, strict=True)]
    assert all(offset % 16 == 0 for offset in plan.offsets)
    assert all(end <= begin for end, begin in zip(ends, (*plan.offsets, plan.staging_bytes)[1:], strict=True))


@FORMAT
def test_a_plan_without_tensors_moves_nothing(form: Format, recorder: Recorder) -> None:
    for counts in ([], [0, 0]):
        plan = PackPlan.of(form, [64] * len(counts), counts)
        launcher = PackLauncher(plan)
        launcher.pack(512, 0)
        launcher.unpack(512, 0)
        assert plan.staging_bytes == 0 and not recorder.launches


@pytest.mark.parametrize(
    ("form", "addresses", "counts", "message"),
    [
        (INT8, [16, 34], [4, 4], "tensor 1 .4 bytes at 34. holds no float32"),
        (BFLOAT16, [16], [6], "tensor 0 .6 bytes at 16. holds no float32"),
        (LOSSLESS, [16], [-1], "segment 0 has -1 bytes"),
        (INT8, [16], [-4], "segment 0 has -4 bytes"),
        (INT8, [16], [], "1 addresses for 0 sizes"),
    ],
)
def test_what_cannot_be_packed_is_refused_in_one_line(
    form: Format, addresses: list[int], counts: list[int], message: str
) -> None:
    with pytest.raises(SegmentError, match=message) as refusal:
        PackPlan.of(form, addresses, counts)
    assert "\n" not in str(refusal.value)


@FORMAT
def test_tensors_that_share_memory_are_packed_but_not_unpacked(form: Format) -> None:
    plan = PackPlan.of(form, [64, 68], [8, 8])
    assert plan.pack_table()[0] == 2
    with pytest.raises(SegmentError, match="segments 0 and 1 overlap"):
        plan.unpack_table()


@FORMAT
def test_one_launch_packs_and_one_unpacks(form: Format, recorder: Recorder) -> None:
    plan = PackPlan.of(form, [1 << 20, 1 << 22, 1 << 23], [400, 0, 1 << 20])
    launcher = PackLauncher(plan)
    launcher.prepare()
    launcher.pack(device_array(plan.staging_bytes, address=512), 7)
    launcher.unpack(device_array(plan.staging_bytes, address=512, read_only=True), 7)
    assert [launch[2:] for launch in recorder.launches] == [("stream 7", (4096, 0, 512)), ("stream 7", (8192, 512, 0))]
    assert all(0 < launch[0] <= 16 and launch[1] == 256 for launch in recorder.launches)


@FORMAT
def test_the_grid_has_a_thread_for_each_share_of_small_work(form: Format, recorder: Recorder) -> None:
    plan = PackPlan.of(form, [64], [4 * 5000])
    PackLauncher(plan).pack(512, 0)
    units = int(plan.pack_table()[HEADER + ROW])
    assert recorder.launches[0][0] == -(-units // form.pack_units)


def test_a_staging_buffer_that_is_too_small_is_refused(recorder: Recorder) -> None:
    plan = PackPlan.of(INT8, [64], [4 * 5000])
    with pytest.raises(ArgumentError, match=f"buffer staging needs {plan.staging_bytes} elements"):
        PackLauncher(plan).pack(device_array(plan.staging_bytes - 1, address=512), 0)
    assert not recorder.launches and pack.FORMATS["int8"] is INT8
