"""The loop's launcher on a machine without a device: arguments, grids, what does not fit."""

from __future__ import annotations

import pytest

from kernels.cuda import kernel as cuda_kernel
from kernels.cuda import launch as cuda_launch
from kernels.cuda import support as cuda_support
from kernels.cuda.launch import ArgumentError, LaunchError
from kernels.recurrent.loop_kernel import LoopLauncher, loop_buffers, loop_source, loop_text
from tests.cuda.loop_programs import lstm_stack
from tests.kernels.cuda.test_launch import FakeCuda

PROGRAM = lstm_stack(2, 20, 1, 3)
ADDRESSES = tuple(2**20 * (k + 1) for k in range(len(PROGRAM.buffers) + 1))


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    cuda = FakeCuda()
    monkeypatch.setattr(cuda_support, "cuda_module", lambda: cuda)
    monkeypatch.setattr(cuda_launch, "current_device", lambda: 0)
    monkeypatch.setattr(cuda_launch, "multiprocessors", lambda: 12)
    monkeypatch.setattr(cuda_kernel, "device_kernel", lambda source: cuda)
    return cuda


def test_the_counter_follows_the_programs_buffers() -> None:
    buffers = loop_buffers(PROGRAM)
    assert [buffer.name for buffer in buffers] == [*(buffer.name for buffer in PROGRAM.buffers), "counter"]
    assert (buffers[0].elements, buffers[0].written) == (PROGRAM.buffers[0].nbytes, True)


def test_a_launch_has_a_warp_a_unit_and_is_cooperative(cuda: FakeCuda) -> None:
    launcher = LoopLauncher(PROGRAM)
    launcher.prepare()
    launcher.launch(ADDRESSES, 7)
    # 20 units of each layer, 8 a block.
    assert cuda.launches == [(6, 256, "stream 7", ADDRESSES)]
    source = loop_source(loop_text(PROGRAM))
    assert source.cooperative and source.threads == 256 and set(source.alignment) == {4}


def test_a_device_that_runs_fewer_blocks_gets_larger_ones(cuda: FakeCuda) -> None:
    cuda.overload.max_cooperative_grid_blocks = lambda threads: 4
    LoopLauncher(PROGRAM).launch(ADDRESSES, 0)
    assert cuda.launches[0][:2] == (4, 384)


def test_a_grid_that_cannot_fit_is_not_even_compiled(cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    # Ten layers of 256 units on 132 multiprocessors: 64 weights a lane leave room for 20 warps on each.
    compiled: list[int] = []
    monkeypatch.setattr(cuda_launch, "multiprocessors", lambda: 132)
    monkeypatch.setattr(cuda_kernel, "device_kernel", lambda source: compiled.append(source.threads) or cuda)
    cuda.overload.max_cooperative_grid_blocks = lambda threads: 132
    program = lstm_stack(10, 256, 1, 2)
    LoopLauncher(program).launch(tuple(2**24 * (k + 1) for k in range(len(program.buffers) + 1)), 0)
    assert compiled == [640] and cuda.launches[0][:2] == (130, 640)


def test_a_loop_that_does_not_fit_is_refused_with_the_reason(cuda: FakeCuda) -> None:
    cuda.overload.max_cooperative_grid_blocks = lambda threads: 1
    with pytest.raises(LaunchError, match=r"the loop's stages do not fit this device: a grid of 2 blocks of 1024"):
        LoopLauncher(PROGRAM).prepare()
    cuda.overload.local_mem_per_thread = 16
    with pytest.raises(LaunchError, match="1024 threads leave 16 bytes a thread outside of registers"):
        LoopLauncher(PROGRAM).prepare()
    assert not cuda.launches


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (ADDRESSES[1:], "arguments for"),
        ((ADDRESSES[0] + 2, *ADDRESSES[1:]), "no multiple of its element's size"),
        ((ADDRESSES[1], *ADDRESSES[1:]), "overlap"),
        (("x", *ADDRESSES[1:]), "buffer scratch needs an address or a CUDA array, not str"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(cuda: FakeCuda, arguments: tuple[object, ...], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        LoopLauncher(PROGRAM).launch(arguments, 0)
    assert not cuda.launches
