"""Tier d of the recurrent family: whole layers on a device against torch.nn, alone and replayed from a CUDA graph."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest

from kernels.recurrent.cell import GRU, LSTM, Cell
from kernels.recurrent.kernel import Launcher, recurrent_buffers
from tests.cuda.device import missing

torch = pytest.importorskip("torch")

WHY = missing()
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(WHY is not None, reason=f"no GPU test: {WHY}")]
CELLS = pytest.mark.parametrize("cell", [LSTM, GRU], ids=["lstm", "gru"])


@pytest.fixture(autouse=True)
def exact_float32() -> Iterator[None]:
    """Keep TF32 out of what the kernel is compared with."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


class Layer:
    """A torch layer and the same layer's buffers for the persistent kernel."""

    def __init__(self, cell: Cell, hidden: int, batch: int, steps: int, features: int = 24) -> None:
        kind = torch.nn.LSTM if cell is LSTM else torch.nn.GRU
        self.cell, self.hidden, self.batch, self.steps, self.features = cell, hidden, batch, steps, features
        self.module = kind(features, hidden).cuda()
        self.launcher = Launcher(cell, hidden, batch)
        self.tensors = {
            buffer.name: torch.full((buffer.elements,), math.nan, device="cuda")
            for buffer in recurrent_buffers(cell, hidden, batch, steps)
        }
        self.tensors["counter"] = torch.zeros(1, dtype=torch.int32, device="cuda")
        self.tensors["weights"] = self.module.weight_hh_l0.detach().clone()
        self.bias = (self.module.bias_ih_l0 + self.module.bias_hh_l0).detach()
        if cell is GRU:
            self.tensors["constants"] = self.module.bias_hh_l0.detach()[2 * hidden :].clone()
            self.bias[2 * hidden :] = self.module.bias_ih_l0.detach()[2 * hidden :]

    def draw(self) -> None:
        """Fill the kernel's inputs and first states with new values."""
        self.x = torch.randn(self.steps, self.batch, self.features, device="cuda")
        product = self.x @ self.module.weight_ih_l0.detach().T + self.bias
        self.tensors["inputs"].copy_(product.ravel())
        for state in self.cell.states:
            self.tensors[f"{state}_first"].normal_()

    def launch(self) -> str:
        """Launch the kernel on torch's current stream."""
        return self.launcher.launch(tuple(self.tensors.values()), self.steps, torch.cuda.current_stream().cuda_stream)

    def check(self) -> None:
        """Compare the kernel's results with torch's on the device and with float64 on the CPU."""
        shape = (1, self.batch, self.hidden)
        first = [self.tensors[f"{state}_first"].reshape(shape) for state in self.cell.states]
        for module, x, states, tolerance in (
            (self.module, self.x, first, 2e-5),
            (self._exact_module(), self.x.double().cpu(), [s.double().cpu() for s in first], 1e-5),
        ):
            with torch.no_grad():
                outputs, last = module(x, tuple(states) if self.cell is LSTM else states[0])
            lasts = last if self.cell is LSTM else (last,)
            wanted = {"outputs": outputs} | {f"{s}_last": v for s, v in zip(self.cell.states, lasts, strict=True)}
            for name, value in wanted.items():
                torch.testing.assert_close(
                    self.tensors[name].cpu().double(), value.cpu().double().ravel(), rtol=tolerance, atol=tolerance
                )

    def _exact_module(self) -> torch.nn.Module:
        module = type(self.module)(self.features, self.hidden)
        module.load_state_dict(self.module.state_dict())
        return module.double()


@CELLS
@pytest.mark.parametrize(
    ("hidden", "batch", "steps"), [(1, 1, 1), (37, 3, 7), (256, 1, 100), (300, 2, 33), (512, 4, 20), (1024, 1, 20)]
)
def test_a_layer_matches_torch(cell: Cell, hidden: int, batch: int, steps: int) -> None:
    layer = Layer(cell, hidden, batch, steps)
    layer.launcher.prepare()
    for _ in range(3):
        layer.draw()
        assert layer.launch() == ("wide" if hidden % 4 == 0 else "scalar")
        layer.check()


@CELLS
@pytest.mark.parametrize("steps", [20, 21])
def test_a_captured_layer_is_replayed_on_new_values(cell: Cell, steps: int) -> None:
    layer = Layer(cell, 256, 1, steps)
    layer.launcher.prepare()
    layer.draw()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        layer.launch()
    for _ in range(2):
        layer.draw()
        layer.tensors["outputs"].fill_(math.nan)
        graph.replay()
        torch.cuda.synchronize()
        layer.check()


def test_weights_off_the_16_byte_grid_take_the_scalar_form() -> None:
    layer = Layer(LSTM, 64, 2, 9)
    weights = layer.tensors["weights"]
    shifted = torch.empty(weights.numel() + 1, device="cuda")[1:]
    layer.tensors["weights"] = shifted.copy_(weights.ravel())
    layer.draw()
    assert layer.launch() == "scalar"
    layer.check()


def test_nan_reaches_every_unit_of_its_item_alone() -> None:
    layer = Layer(LSTM, 256, 2, 3)
    layer.draw()
    layer.tensors["h_first"][5] = math.nan
    layer.launch()
    nan = torch.isnan(layer.tensors["outputs"].reshape(3, 2, 256))
    assert nan[:, 0].all() and not nan[:, 1].any()


def test_a_layer_on_a_side_stream_waits_for_what_comes_before_it_there() -> None:
    layer = Layer(GRU, 512, 1, 50)
    layer.launcher.prepare()
    layer.draw()
    wanted = layer.tensors["inputs"].clone()
    layer.tensors["inputs"].fill_(math.nan)
    matrix = torch.randn(4096, 4096, device="cuda")
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(20):
            matrix = matrix @ matrix / 64
        layer.tensors["inputs"].copy_(wanted)
        layer.launch()
    side.synchronize()
    layer.check()
