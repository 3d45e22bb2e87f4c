"""Part: a recurrent layer of 100 steps, against cuDNN's and a loop of torch's cells; float32.

Ours is the whole layer: the matrix product of all steps' inputs, then the persistent kernel.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import torch

from benchmarks.gpu.contest import OURS, Contest, Rival, require_device, run_contest
from benchmarks.gpu.findings import Bar, Found
from benchmarks.gpu.part import Task
from benchmarks.gpu.rivals import keeping, stream_handle
from kernels.recurrent.cell import GRU, LSTM, Cell
from kernels.recurrent.kernel import Launcher, recurrent_buffers

STEPS = 100
CUDNN, CUDNN_FULL, CELLS, ALONE = "cudnn", "cudnn-without-tf32", "eager-cells", "our-kernel-alone"
BARS = {
    "": (Bar("ours", at_most=500.0),),
    CUDNN: (Bar("ratio", at_least=2.0),),
    CUDNN_FULL: (Bar("ratio", at_least=2.0),),
}


@dataclass(frozen=True)
class Layer:
    """One layer's kind and size; inputs are as wide as the hidden state. judged: whether the bars are for it."""

    cell: Cell
    batch: int
    hidden: int
    judged: bool = False

    def name(self, steps: int) -> str:
        """Return the case's id."""
        return f"{self.cell.name}-t{steps}-b{self.batch}-h{self.hidden}"


LAYERS = (Layer(LSTM, 1, 256, judged=True), Layer(LSTM, 4, 256), Layer(LSTM, 1, 512), Layer(GRU, 1, 256))


def tasks(argument: str) -> list[Task]:
    """Return a task for each layer."""
    return [Task(layer.name(STEPS), functools.partial(run, layer)) for layer in LAYERS]


def run(layer: Layer) -> Found:
    """Return the figures of one layer."""
    require_device()
    return run_contest(contest(layer, STEPS, "cuda"))


def contest(layer: Layer, steps: int, device: str) -> Contest:
    """Return the contest of one layer; x is [steps, batch, hidden]."""
    kind = torch.nn.LSTM if layer.cell is LSTM else torch.nn.GRU
    module = kind(layer.hidden, layer.hidden, device=device).eval().requires_grad_(False)
    x = torch.randn(steps, layer.batch, layer.hidden, device=device)
    ours = OurLayer(layer, module, steps)
    return Contest(
        case=layer.name(steps),
        rivals={
            OURS: lambda: Rival([lambda: ours.run(x)], lambda: ours.outputs),
            ALONE: lambda: Rival([ours.launch], lambda: ours.outputs),
            CUDNN: lambda: keeping(_outputs_of(module), [(x,)]),
            CUDNN_FULL: lambda: keeping(_without_tf32(_outputs_of(module)), [(x,)]),
            CELLS: lambda: keeping(_loop_of_cells(layer, module), [(x,)]),
        },
        wanted=lambda: _outputs_of(_in_float64(module))(x.double()),
        tolerance=1e-5,
        tolerances={CUDNN: 1e-2, CUDNN_FULL: 1e-4, CELLS: 1e-4},
        bars=BARS if layer.judged else {},
    )


class OurLayer:
    """The product of the inputs and the persistent kernel, on memory of their own, for one module's weights."""

    def __init__(self, layer: Layer, module: torch.nn.RNNBase, steps: int) -> None:
        hidden, cell = layer.hidden, layer.cell
        weights = module.weight_hh_l0
        self.launcher, self.steps = Launcher(cell, hidden, layer.batch), steps
        self.weights_input, self.bias = module.weight_ih_l0, module.bias_ih_l0 + module.bias_hh_l0
        self.memory: dict[str, torch.Tensor] = {}
        for buffer in recurrent_buffers(cell, hidden, layer.batch, steps):
            dtype = torch.int32 if buffer.dtype == "uint32" else torch.float32
            self.memory[buffer.name] = torch.zeros(buffer.elements, dtype=dtype, device=weights.device)
        self.memory["weights"].copy_(weights.reshape(-1))
        if cell is GRU:
            # The last gate's hidden bias stands within the product with the reset gate.
            self.bias[2 * hidden :] = module.bias_ih_l0[2 * hidden :]
            self.memory["constants"].copy_(module.bias_hh_l0[2 * hidden :])
        self.inputs = self.memory["inputs"].view(steps * layer.batch, cell.inputs * hidden)
        self.outputs = self.memory["outputs"].view(steps, layer.batch, hidden)

    def run(self, x: torch.Tensor) -> None:
        """Queue the whole layer."""
        torch.addmm(self.bias, x.view(self.inputs.shape[0], -1), self.weights_input.t(), out=self.inputs)
        self.launch()

    def launch(self) -> None:
        """Queue the kernel alone, on the inputs' product as it is."""
        self.launcher.launch([tensor.data_ptr() for tensor in self.memory.values()], self.steps, stream_handle())


Outputs = Callable[[torch.Tensor], torch.Tensor]


def _outputs_of(module: torch.nn.Module) -> Outputs:
    def outputs(x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = module(x)[0]
        return found

    return outputs


def _without_tf32(function: Outputs) -> Outputs:
    def outputs(x: torch.Tensor) -> torch.Tensor:
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            return function(x)

    return outputs


def _in_float64(module: torch.nn.RNNBase) -> torch.nn.Module:
    copy = type(module)(module.input_size, module.hidden_size)
    copy.load_state_dict({name: value.cpu() for name, value in module.state_dict().items()})
    return copy.to(module.weight_hh_l0.device).double().eval().requires_grad_(False)


def _loop_of_cells(layer: Layer, module: torch.nn.RNNBase) -> Outputs:
    """Return what a user writes with torch's cells: one call a step."""
    kind = torch.nn.LSTMCell if layer.cell is LSTM else torch.nn.GRUCell
    cell = kind(layer.hidden, layer.hidden, device=module.weight_hh_l0.device).requires_grad_(False)
    cell.load_state_dict({name.removesuffix("_l0"): value for name, value in module.state_dict().items()})

    def outputs(x: torch.Tensor) -> torch.Tensor:
        state, found = None, []
        for step in x:
            state = cell(step, state)
            found.append(state[0] if layer.cell is LSTM else state)
        return torch.stack(found)

    return outputs
