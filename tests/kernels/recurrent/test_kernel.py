"""The recurrent family on a machine without a device: cells, CPU twin and reference against torch, the launcher."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

from kernels.cuda import kernel as cuda_kernel
from kernels.cuda import launch as cuda_launch
from kernels.cuda import support as cuda_support
from kernels.cuda.launch import ArgumentError, LaunchError
from kernels.recurrent.cell import GRU, LSTM, RESERVED, Cell, CellError
from kernels.recurrent.kernel import (
    Launcher,
    RecurrentError,
    recurrent_buffers,
    recurrent_source,
    recurrent_texts,
    reference,
)
from tests.kernels.cuda.test_launch import FakeCuda

MODULES = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}


def layer_arrays(cell: Cell, module: torch.nn.RNNBase, x: torch.Tensor, first: list[torch.Tensor]) -> list[np.ndarray]:
    """Return a launch's buffers for a torch layer, its inputs multiplied beforehand as a caller does."""
    steps, batch, _ = x.shape
    hidden = module.hidden_size
    bias = module.bias_ih_l0 + module.bias_hh_l0
    constants = []
    if cell is GRU:
        bias = module.bias_ih_l0 + torch.cat([module.bias_hh_l0[: 2 * hidden], torch.zeros(hidden)])
        constants = [module.bias_hh_l0[2 * hidden :]]
    inputs = (x @ module.weight_ih_l0.T + bias).contiguous()
    given = [inputs, module.weight_hh_l0, *constants, *first]
    arrays = [tensor.detach().numpy().ravel().copy() for tensor in given]
    for buffer in recurrent_buffers(cell, hidden, batch, steps)[len(arrays) :]:
        arrays.append(np.zeros(buffer.elements, buffer.dtype))
    return arrays


@pytest.mark.parametrize(("cell", "hidden", "batch"), [(LSTM, 37, 3), (GRU, 33, 1)], ids=["lstm", "gru"])
def test_twin_and_reference_match_torch(cell: Cell, hidden: int, batch: int) -> None:
    steps, features = 5, 6
    module = MODULES[cell.name](features, hidden)
    x = torch.randn(steps, batch, features)
    first = [torch.randn(1, batch, hidden) for _ in cell.states]
    outputs, last = module(x, tuple(first) if cell is LSTM else first[0])
    wanted = {"outputs": outputs} | dict(
        zip([f"{state}_last" for state in cell.states], last if cell is LSTM else [last], strict=True)
    )
    arrays = layer_arrays(cell, module, x, first)
    exact = reference(cell, hidden, batch, steps, arrays)
    cuda_kernel.run_twin(recurrent_source(recurrent_texts(cell, hidden, batch)["scalar"]), (*arrays, steps))
    names = [buffer.name for buffer in recurrent_buffers(cell, hidden, batch, steps)]
    for name, expected in wanted.items():
        for got in (arrays[names.index(name)], exact[names.index(name)]):
            np.testing.assert_allclose(got, expected.detach().numpy().ravel(), 5e-6, 5e-6)


def test_another_cell_is_computed_from_its_lines_alone() -> None:
    # A leaky unit with a gate of its own and a running sum.
    leaky = Cell(
        name="leaky",
        gates=1,
        inputs=2,
        states=("h", "total"),
        constants=("decay", "bias"),
        lines=(
            "fresh = tanh_float32(p0 + x0 + bias)",
            "h = decay * h + (float32(1.0) - decay) * fresh * x1",
            "total = total + fabs_float32(h)",
        ),
    )
    hidden, batch, steps = 6, 2, 4
    random = np.random.default_rng()
    buffers = recurrent_buffers(leaky, hidden, batch, steps)
    arrays = [
        np.zeros(b.elements, b.dtype) if b.written else random.standard_normal(b.elements).astype(b.dtype)
        for b in buffers
    ]
    named = {b.name: a for b, a in zip(buffers, arrays, strict=True)}
    h, total = (named[name].reshape(batch, hidden).astype(np.float64) for name in ("h_first", "total_first"))
    decay, bias = named["constants"].reshape(2, hidden)
    for step in named["inputs"].reshape(steps, batch, 2, hidden):
        fresh = np.tanh(h @ named["weights"].reshape(hidden, hidden).T + step[:, 0] + bias)
        h = decay * h + (1 - decay) * fresh * step[:, 1]
        total = total + np.abs(h)
    cuda_kernel.run_twin(recurrent_source(recurrent_texts(leaky, hidden, batch)["scalar"]), (*arrays, steps))
    np.testing.assert_allclose(named["h_last"], h.ravel(), 1e-4, 1e-5)
    np.testing.assert_allclose(named["total_last"], total.ravel(), 1e-4, 1e-5)


def made(**changes: object) -> Cell:
    fields = {"name": "test", "gates": 1, "inputs": 1, "states": ("h",), "constants": (), "lines": ("h = p0 + x0",)}
    return Cell(**{**fields, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lines": ("h = p0 + x1",)}, "reads x1, which nothing gave a value"),
        ({"lines": ("h = p0", "h = open(h)")}, "reads open, which nothing gave a value"),
        ({"lines": ("fresh = p0",)}, "leaves state h as it is"),
        ({"lines": ("step = p0", "h = step")}, "has the line 'step = p0'; assign one state or temporary a line"),
        ({"lines": ("h = p0; p0 = h",)}, "assign one state or temporary a line"),
        ({"lines": ("h += p0",)}, "assign one state or temporary a line"),
        ({"lines": ("h = = p0",)}, "assign one state or temporary a line"),
        ({"lines": ("bias = p0", "h = bias"), "constants": ("bias",)}, "assign one state or temporary a line"),
        ({"states": ("h", "h")}, "give each a free name of letters"),
        ({"states": ("lane",), "lines": ("lane = p0",)}, "give each a free name of letters"),
        ({"states": ()}, "needs at least one gate and one state"),
        ({"gates": 0}, "needs at least one gate and one state"),
    ],
)
def test_a_cell_that_the_kernel_cannot_take_is_refused_in_one_line(changes: dict, message: str) -> None:
    with pytest.raises(CellError, match=re.escape(message)) as raised:
        made(**changes)
    assert str(raised.value).startswith("cell test ") and "\n" not in str(raised.value)


def test_every_name_of_the_kernels_own_is_reserved() -> None:
    for batch in (1, 3):
        for text in recurrent_texts(made(constants=("bias",)), 36, batch).values():
            source = recurrent_source(text)
            own = {"h", "bias", "h_first", "h_last"}
            for lines in (source.text, source.host_text):
                stored = set(re.findall(r"(?<![\w.])([a-z_]+)(?=(?:, \w+)* = | in range)", lines))
                assert stored - own - RESERVED == set()


def test_every_literal_of_the_kernel_is_typed() -> None:
    for cell in (LSTM, GRU):
        for text in recurrent_texts(cell, 36, 3).values():
            assert not re.search(r"\d\.\d", re.sub(r"float32\(\d\.\d\)", "", text.text()))


@pytest.mark.parametrize(
    ("cell", "hidden", "batch", "message"),
    [
        (LSTM, 0, 1, "hidden size 0: give at least 1"),
        (LSTM, 256, 5, "batch 5: the persistent kernel takes 1 to 4; split the batch"),
        (LSTM, 256, 0, "batch 0"),
        (LSTM, 2048, 1, "hidden size 2048 of lstm: 256 weights a thread do not stay in registers, 160 do"),
    ],
)
def test_a_layer_that_never_fits_is_refused_at_once(cell: Cell, hidden: int, batch: int, message: str) -> None:
    with pytest.raises(RecurrentError, match=message):
        Launcher(cell, hidden, batch)


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    cuda = FakeCuda()
    monkeypatch.setattr(cuda_support, "cuda_module", lambda: cuda)
    monkeypatch.setattr(cuda_launch, "current_device", lambda: 0)
    monkeypatch.setattr(cuda_launch, "multiprocessors", lambda: 12)
    monkeypatch.setattr(cuda_kernel, "device_kernel", lambda source: cuda)
    return cuda


LSTM_ADDRESSES = tuple(2**20 * k for k in range(1, 10))


def test_the_grid_has_a_warp_for_each_unit_and_aligned_addresses_take_the_wide_form(cuda: FakeCuda) -> None:
    launcher = Launcher(LSTM, 68, 2)
    launcher.prepare()
    assert launcher.launch(LSTM_ADDRESSES, 100, 7) == "wide"
    shifted = (LSTM_ADDRESSES[0] + 4, LSTM_ADDRESSES[1] + 4, *LSTM_ADDRESSES[2:])
    assert launcher.launch(shifted, 100, 0) == "scalar"
    assert cuda.launches == [
        (9, 256, "stream 7", (*LSTM_ADDRESSES, 100)),
        (9, 256, 0, (*shifted, 100)),
    ]


def test_a_device_with_few_multiprocessors_gets_more_units_a_block(
    cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda_launch, "multiprocessors", lambda: 6)
    Launcher(LSTM, 68, 1).launch(LSTM_ADDRESSES, 1, 0)
    assert cuda.launches[0][:2] == (6, 384)


@pytest.mark.parametrize(
    ("multiprocessors", "message"),
    [
        (2, "hidden size 68 needs 3 multiprocessors, but this device has 2; use cuDNN"),
        (3, "a grid of 3 blocks of 736 threads .* but this device runs 1"),
    ],
)
def test_a_grid_that_does_not_fit_the_device_is_refused(
    cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch, multiprocessors: int, message: str
) -> None:
    monkeypatch.setattr(cuda_launch, "multiprocessors", lambda: multiprocessors)
    cuda.overload.max_cooperative_grid_blocks = lambda threads: 1
    with pytest.raises(LaunchError, match=message):
        Launcher(LSTM, 68, 1).prepare()


def test_weights_that_do_not_stay_in_registers_are_refused(cuda: FakeCuda) -> None:
    cuda.overload.local_mem_per_thread = 48
    launcher = Launcher(LSTM, 68, 2)
    for refused in (launcher.prepare, lambda: launcher.launch(LSTM_ADDRESSES, 3, 0)):
        with pytest.raises(LaunchError, match="hidden size 68 at batch 2: blocks of 256 threads leave 48 bytes"):
            refused()
    assert not cuda.launches


@pytest.mark.parametrize(
    ("arguments", "steps", "message"),
    [
        (LSTM_ADDRESSES, 0, "0 steps: a recurrent layer needs at least 1"),
        (LSTM_ADDRESSES[1:], 3, "8 arguments for 9 buffers; give one for each"),
        ((*LSTM_ADDRESSES[:-1], 4098 + 65536), 3, "no multiple of its element's size"),
        ((*LSTM_ADDRESSES[:5], LSTM_ADDRESSES[2], *LSTM_ADDRESSES[6:]), 3, "h_first and h_last overlap"),
        ((np.zeros(3, np.float32), *LSTM_ADDRESSES[1:]), 3, "buffer inputs needs an address or a CUDA array"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(
    cuda: FakeCuda, arguments: tuple[object, ...], steps: int, message: str
) -> None:
    with pytest.raises(ArgumentError, match=message):
        Launcher(LSTM, 68, 1).launch(arguments, steps, 0)
    assert not cuda.launches
