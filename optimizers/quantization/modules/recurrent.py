"""Recurrent layers with compressed weights: nn.LSTM, nn.GRU, nn.RNN and their cells."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from analyzer.errors import HotbenchError
from kernels.quantized.cpu_store import group_of
from kernels.quantized.cpu_weights import PreparedWeights
from optimizers.quantization.modules.base import QuantizedModule, bias_of, set_buffer
from optimizers.quantization.modules.gradients import refuse_gradients
from optimizers.quantization.modules.prepare import arrays_of
from optimizers.quantization.op_recurrent import recurrent_op

Prepared = Mapping[str, PreparedWeights]
"""By the name of the parameter."""
State = torch.Tensor | tuple[torch.Tensor, torch.Tensor]


class _Recurrent(QuantizedModule):
    """What layers and cells have in common: the weights of each direction of each layer, and one call of the op."""

    holds = "recurrent"

    def __init__(self, original: nn.RNNBase | nn.RNNCellBase, mode: str, prepared: Prepared) -> None:
        super().__init__()
        self.mode, self.input_size, self.hidden_size = mode, original.input_size, original.hidden_size
        self.kinds = {name: (weights.kind, group_of(weights) or 0) for name, weights in prepared.items()}
        self.arrays: dict[str, tuple[str, ...]] = {}
        for name, weights in prepared.items():
            arrays = {f"{name}_{part}": array for part, array in arrays_of(weights).items()}
            self.hold(arrays)
            self.arrays[name] = tuple(arrays)
            set_buffer(self, name.replace("weight", "bias"), bias_of(original, name.replace("weight", "bias")))
        first = next(iter(prepared.values()))
        self.kind, self.kernel, self.reason = first.kind, first.kernel, first.reason

    def run(
        self, x: torch.Tensor, hidden: torch.Tensor, cell: torch.Tensor | None, suffix: str, reverse: bool
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return outputs and last states of one layer in one direction; x [steps, batch, columns]."""
        refuse_gradients(x, hidden, cell)
        buffers, names = self._buffers, (f"weight_ih{suffix}", f"weight_hh{suffix}")
        arrays = [[buffers[name] for name in self.arrays[own]] for own in names]
        (input_kind, input_group), (hidden_kind, hidden_group) = (self.kinds[name] for name in names)
        result: tuple[torch.Tensor, torch.Tensor, torch.Tensor] = recurrent_op(
            x, hidden, cell, *arrays, buffers.get(f"bias_ih{suffix}"), buffers.get(f"bias_hh{suffix}"),
            self.mode, input_kind, hidden_kind, input_group, hidden_group, self.hidden_size, reverse,
        )  # fmt: skip
        return result

    def extra_repr(self) -> str:
        """Return sizes, kind and kernel."""
        return f"{self.mode}, {self.input_size}, {self.hidden_size}, kind={self.kind}, kernel={self.kernel}"


class QuantizedRecurrent(_Recurrent):
    """Computes what nn.LSTM, nn.GRU or nn.RNN does for inference, packed sequences and projections apart."""

    def __init__(self, original: nn.RNNBase, prepared: Prepared) -> None:
        super().__init__(original, original.mode.lower(), prepared)
        self.num_layers, self.bidirectional = original.num_layers, original.bidirectional
        self.batch_first, self.dropout = original.batch_first, original.dropout

    def forward(self, x: Any, state: State | None = None) -> tuple[torch.Tensor, State]:
        """Return the outputs and the last state, shaped as torch's layer does.

        Raises HotbenchError for a packed sequence, an x of another shape, and for dropout in training mode.
        """
        if isinstance(x, nn.utils.rnn.PackedSequence):
            raise HotbenchError("a quantized recurrent layer takes no packed sequence; pass the padded batch itself")
        if x.dim() not in (2, 3) or x.shape[-1] != self.input_size:
            raise HotbenchError(f"x is {list(x.shape)}; this layer takes [steps, {self.input_size}] or a batch of it")
        if self.training and self.dropout and self.num_layers > 1:
            raise HotbenchError("a quantized recurrent layer has no dropout; call model.eval() first")
        if x.dim() == 2:
            return self._without_batch(x, state)
        x = x.transpose(0, 1) if self.batch_first else x
        hidden, cell = self._initial(x, state)
        out = x
        last: list[torch.Tensor] = []
        cells: list[torch.Tensor] = []
        for layer in range(self.num_layers):
            directions = []
            for direction in range(1 + self.bidirectional):
                place = len(last)
                suffix = f"_l{layer}" + ("_reverse" if direction else "")
                own = None if cell is None else cell[place]
                found, h, c = self.run(out, hidden[place], own, suffix, bool(direction))
                directions.append(found)
                last.append(h)
                cells.append(c)
            out = directions[0] if len(directions) == 1 else torch.cat(directions, 2)
        out = out.transpose(0, 1) if self.batch_first else out
        return out, torch.stack(last) if cell is None else (torch.stack(last), torch.stack(cells))

    def _without_batch(self, x: torch.Tensor, state: State | None) -> tuple[torch.Tensor, State]:
        axis = 0 if self.batch_first else 1
        if state is not None:
            state = tuple(s.unsqueeze(1) for s in state) if isinstance(state, tuple) else state.unsqueeze(1)  # type: ignore[assignment]
        out, last = self.forward(x.unsqueeze(axis), state)
        if isinstance(last, tuple):
            return out.squeeze(axis), (last[0].squeeze(1), last[1].squeeze(1))
        return out.squeeze(axis), last.squeeze(1)

    def _initial(self, x: torch.Tensor, state: State | None) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return the initial hidden and cell states [layers * directions, batch, size]."""
        shape = (self.num_layers * (1 + self.bidirectional), x.shape[1], self.hidden_size)
        if state is None:
            zeros = x.new_zeros(shape)
            return zeros, zeros if self.mode == "lstm" else None
        if isinstance(state, torch.Tensor) == (self.mode == "lstm"):
            raise HotbenchError(f"the state of a quantized {self.mode} is {_STATES[self.mode == 'lstm']}")
        states = (state,) if isinstance(state, torch.Tensor) else tuple(state)
        for given in states:
            if tuple(given.shape) != shape:
                raise HotbenchError(f"an initial state is {list(given.shape)}; this layer takes {list(shape)}")
        return states[0], states[1] if self.mode == "lstm" else None


_STATES = ("one tensor, the hidden state", "a tuple of two tensors, the hidden and the cell state")


class QuantizedCell(_Recurrent):
    """Computes one step, as nn.LSTMCell, nn.GRUCell or nn.RNNCell does."""

    def forward(self, x: torch.Tensor, state: State | None = None) -> State:
        """Return the hidden state after the step; of an LSTM, hidden and cell state."""
        if x.dim() not in (1, 2) or x.shape[-1] != self.input_size:
            raise HotbenchError(f"x is {list(x.shape)}; this cell takes [batch, {self.input_size}]")
        batched = x if x.dim() == 2 else x.unsqueeze(0)
        if state is None:
            zeros = x.new_zeros(batched.shape[0], self.hidden_size)
            state = (zeros, zeros) if self.mode == "lstm" else zeros
        if isinstance(state, torch.Tensor) == (self.mode == "lstm"):
            raise HotbenchError(f"the state of a quantized {self.mode} is {_STATES[self.mode == 'lstm']}")
        hidden, cell = (state, None) if isinstance(state, torch.Tensor) else state
        if x.dim() == 1:
            hidden, cell = hidden.reshape(1, -1), None if cell is None else cell.reshape(1, -1)
        _, h, c = self.run(batched.unsqueeze(0), hidden, cell, "", False)
        h, c = (h, c) if x.dim() == 2 else (h.squeeze(0), c.squeeze(0))
        return h if cell is None else (h, c)


def quantized_recurrent(original: nn.RNNBase, prepared: Prepared) -> QuantizedRecurrent:
    """Return the layer that takes a recurrent layer's place. prepared: all its weights, by their names."""
    return QuantizedRecurrent(original, prepared).in_place_of(original)


def quantized_cell(original: nn.RNNCellBase, prepared: Prepared) -> QuantizedCell:
    """Return the cell that takes a cell's place. prepared: weight_ih and weight_hh."""
    modes = {nn.LSTMCell: "lstm", nn.GRUCell: "gru"}
    nonlinearity = getattr(original, "nonlinearity", "tanh")
    return QuantizedCell(original, modes.get(type(original), f"rnn_{nonlinearity}"), prepared).in_place_of(original)
