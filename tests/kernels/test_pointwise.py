from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from kernels import pointwise
from kernels.compiler.ir import IrError
from kernels.compiler.print_cuda import print_cuda
from kernels.cuda import support as cuda_support
from kernels.cuda.launch import ArgumentError
from kernels.pointwise import Launcher
from tests.cuda.case import assert_guards, guarded
from tests.cuda.expression import Expression
from tests.cuda.pointwise_cases import angles, bias_odd_rows, gelu, transposed
from tests.kernels.device_stand_in import Recorder


def device_array(
    elements: int = 37, dtype: str = "<f4", address: int = 256, read_only: bool = False, strides: object = None
) -> SimpleNamespace:
    """Return what a launcher sees of a CUDA tensor."""
    interface = {"data": (address, read_only), "shape": (elements,), "typestr": dtype, "strides": strides, "version": 2}
    return SimpleNamespace(__cuda_array_interface__=interface)


def test_aligned_addresses_take_the_wide_form_and_others_the_scalar_one(recorder: Recorder) -> None:
    launcher = Launcher(gelu(37))
    assert launcher.launch((256, 512), 0) == "wide"
    assert launcher.launch((260, 512), 0) == "scalar"
    assert launcher.launch((256, 520), 0) == "scalar"
    assert [launch[-1] for launch in recorder.launches] == [(256, 512), (260, 512), (256, 520)]


def test_a_region_without_wide_form_always_takes_the_scalar_one(recorder: Recorder) -> None:
    for region in (bias_odd_rows(37), transposed(37)):
        assert Launcher(region).launch((256, 512, 1024), 0) == "scalar"


def test_the_grid_covers_small_work_once_and_caps_large_work(recorder: Recorder) -> None:
    Launcher(gelu(37)).launch((256, 512), 0)
    Launcher(gelu(10**9)).launch((256, 512), 0)
    assert [launch[:2] for launch in recorder.launches] == [(1, 256), (16, 256)]


def test_the_stream_handle_is_passed_on(recorder: Recorder) -> None:
    Launcher(gelu(37)).launch((device_array(), device_array(address=512)), 0x7F00)
    assert recorder.launches[0][2] == f"stream {0x7F00}"


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (device_array(36), "buffer out1 needs 37 elements, not 36"),
        (device_array(dtype="<f8"), "buffer out1 needs float32, not float64"),
        (device_array(read_only=True), "buffer out1 is written, but its array is read-only"),
        (device_array(strides=(8,)), "buffer out1 has strides"),
        (np.zeros(37, np.float32), "buffer out1 needs an address or a CUDA array, not ndarray"),
        (514, "no multiple of its element's size"),
    ],
)
def test_an_argument_that_does_not_fit_is_refused_by_name(recorder: Recorder, output: object, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        Launcher(gelu(37)).launch((device_array(), output), 0)
    assert not recorder.launches


def test_a_missing_argument_is_refused(recorder: Recorder) -> None:
    with pytest.raises(ArgumentError, match="1 arguments for 2 buffers"):
        Launcher(gelu(37)).launch((256,), 0)


def test_contiguous_strides_are_accepted(recorder: Recorder) -> None:
    arrays = (device_array(strides=(4,)), device_array(address=512, strides=(4,)))
    assert Launcher(gelu(37)).launch(arrays, 0) == "wide"


def test_a_launch_without_device_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    none = cuda_support.CudaDescription(None, None, 0, None, "no CUDA driver answers")
    monkeypatch.setattr(cuda_support, "describe", lambda: none)
    with pytest.raises(cuda_support.CudaUnavailable, match="no CUDA driver answers"):
        Launcher(gelu(37)).prepare()


def test_an_op_without_text_is_refused() -> None:
    e = Expression(5)
    x = e.load("int32")
    e.store(e.op("div", x, x))
    with pytest.raises(IrError, match="div"):
        print_cuda(e.region())


def test_every_literal_of_a_float32_kernel_is_typed() -> None:
    for source in print_cuda(angles(37)).values():
        assert "1.0" not in source.text.replace("float32(1.0)", "")


def test_memory_that_is_written_is_not_read_as_unchanging() -> None:
    e = Expression(37)
    x, y = e.load(), e.load()
    e.store_in_place(e.op("add", x, y), x)
    text = print_cuda(e.region())["wide"].text
    assert "load_float32x4(a0" in text and "read_float32x4(a1" in text and "read_float32x4(a0" not in text


def test_the_twin_of_a_large_odd_size_matches_the_reference() -> None:
    size = 100_003
    x, out = guarded("float32", size), guarded("float32", size)
    x[:] = np.random.default_rng().standard_normal(size)
    wanted = pointwise.reference(gelu(size), (x, out))[1]
    pointwise.twin(print_cuda(gelu(size))["wide"], (x, out))
    assert np.allclose(out, wanted, rtol=2e-6, atol=2e-6)
    assert_guards("out", out)


def test_the_reference_leaves_its_arrays_as_they_are() -> None:
    x, out = np.ones(37, np.float32), np.zeros(37, np.float32)
    after = pointwise.reference(gelu(37), (x, out))
    assert not out.any() and after[1].dtype == np.float64 and after[1].all()
