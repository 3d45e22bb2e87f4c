"""Tensors that are not contiguous: which are moved, and that the twin moves them as NumPy does."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.cuda import kernel as cuda_kernel
from kernels.cuda import launch as cuda_launch
from kernels.cuda import support as cuda_support
from kernels.transfer.segment_table import SegmentError
from kernels.transfer.strided import GATHER, SCATTER, StridedLauncher, StridedPlan, StridedTensor, view_of
from tests.cuda.case import assert_guards, guarded
from tests.kernels.device_stand_in import Recorder

WHOLE = torch.arange(2 * 3 * 4 * 5 * 2).reshape(2, 3, 4, 5, 2)


def described(tensor: torch.Tensor) -> StridedTensor:
    """Return what is moved of a torch tensor."""
    size = tensor.element_size()
    return StridedTensor(tensor.data_ptr(), tuple(tensor.shape), tuple(size * s for s in tensor.stride()), size)


@settings(deadline=None, max_examples=40)
@given(st.data(), st.sampled_from((torch.uint8, torch.float16, torch.float32, torch.int64)))
def test_any_permuted_and_sliced_tensor_is_gathered_and_scattered_as_torch_copies_it(
    data: st.DataObject, dtype: torch.dtype
) -> None:
    shape = data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=4))
    whole = torch.randint(0, 100, shape).to(dtype)
    tensor = whole.permute(data.draw(st.permutations(range(len(shape)))))
    axis = data.draw(st.integers(0, len(shape) - 1))
    start = data.draw(st.integers(0, tensor.shape[axis] - 1))
    keys = [slice(None)] * len(shape)
    keys[axis] = slice(start, tensor.shape[axis], data.draw(st.integers(1, 3)))
    tensor = tensor[tuple(keys)]
    plan = StridedPlan.of([described(tensor), described(whole)])
    arena = guarded("uint8", plan.arena_bytes)
    cuda_kernel.run_twin(GATHER, (plan.gather_table(), 0, arena))
    assert_guards("arena", arena)
    for given_tensor, offset in zip((tensor, whole), plan.offsets, strict=True):
        assert arena[offset:].tobytes().startswith(given_tensor.contiguous().numpy().tobytes())
    wanted, before = tensor.clone(), whole.clone()
    tensor.zero_()
    table = StridedPlan.of([described(tensor)]).scatter_table()
    cuda_kernel.run_twin(SCATTER, (table, arena, 0))
    assert torch.equal(tensor, wanted) and torch.equal(whole, before)


def test_axes_that_lie_as_one_are_merged() -> None:
    # bytes of an element, the inner extents, the strides; the outermost extent follows from the size
    assert described(WHOLE).layout() == (8, 1, 1, 240, 0, 0, 0, 8)
    assert described(WHOLE.transpose(0, 1)).layout() == (8, 3, 2, 40, 0, 320, 960, 8)
    assert described(WHOLE[:, :, 1:2]).layout() == (8, 1, 6, 10, 0, 0, 320, 8)


def test_five_axes_that_do_not_merge_are_refused() -> None:
    with pytest.raises(SegmentError, match="has 5 axes; 4 at most"):
        StridedPlan.of([described(WHOLE.permute(4, 3, 2, 1, 0))])


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (StridedTensor(0, (2, 2), (4,), 4), "differ in length"),
        (StridedTensor(0, (2,), (16,), 16), "elements of 16 bytes"),
        (StridedTensor(0, (-1,), (4,), 4), "not one of 0 to"),
        (StridedTensor(0, (2**30, 2), (8, 4), 4), "split the tensor"),
        (StridedTensor(0, (2,), (-4,), 4), "make the tensor contiguous first"),
        (StridedTensor(0, (2,), (6,), 4), "make the tensor contiguous first"),
        (StridedTensor(2, (2,), (4,), 4), "make the tensor contiguous first"),
    ],
)
def test_what_no_kernel_can_read_is_refused_in_one_line(tensor: StridedTensor, message: str) -> None:
    with pytest.raises(SegmentError, match=message) as refusal:
        StridedPlan.of([tensor])
    assert "\n" not in str(refusal.value)


def test_an_expanded_tensor_is_gathered_but_not_scattered(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder()
    monkeypatch.setattr(cuda_support, "cuda_module", lambda: recorder)
    monkeypatch.setattr(cuda_kernel, "device_kernel", lambda source: recorder)
    monkeypatch.setattr(cuda_launch, "current_device", lambda: 0)
    monkeypatch.setattr(cuda_launch, "multiprocessors", lambda: 2)
    launcher = StridedLauncher(StridedPlan.of([StridedTensor(4096, (3, 5), (0, 4), 4)]))
    launcher.prepare()
    launcher.gather(512, 7)
    assert recorder.launches == [(1, 256, "stream 7", (4096, 0, 512))]
    with pytest.raises(SegmentError, match="at 4096 share memory"):
        launcher.scatter(512, 7)


def test_overlapping_windows_are_not_scattered_into() -> None:
    windows = StridedPlan.of([StridedTensor(0, (3, 4), (4, 4), 4)])
    with pytest.raises(SegmentError, match="share memory"):
        windows.scatter_table()
    assert StridedPlan.of([StridedTensor(0, (3, 4), (4, 12), 4)]).expanded is None


def test_the_reference_refuses_what_lies_beyond_its_memory() -> None:
    with pytest.raises(SegmentError, match="ends beyond"):
        view_of(StridedTensor(8, (3,), (4,), 4), np.zeros(19, np.uint8))
    assert view_of(StridedTensor(8, (3,), (4,), 4), np.zeros(20, np.uint8)).shape == (3,)
