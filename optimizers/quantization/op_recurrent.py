"""The op hotbench::quantized_recurrent: one recurrent layer with compressed weights, in one direction."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from analyzer.errors import HotbenchError
from kernels.quantized.cpu_recurrent import GATES, State, run_layer, scratch_bytes
from optimizers.quantization.op_library import call_of, checked_bias, checked_input, register
from optimizers.quantization.op_reference import matrix, reference_recurrent

SCHEMA = (
    "quantized_recurrent(Tensor x, Tensor hidden, Tensor? cell, Tensor[] input_arrays, Tensor[] hidden_arrays, "
    "Tensor? input_bias, Tensor? hidden_bias, str mode, str input_kind, str hidden_kind, int input_group, "
    "int hidden_group, int size, bool reverse) -> (Tensor, Tensor, Tensor)"
)
Result = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def quantized_recurrent(
    x: torch.Tensor,
    hidden: torch.Tensor,
    cell: torch.Tensor | None,
    input_arrays: Sequence[torch.Tensor],
    hidden_arrays: Sequence[torch.Tensor],
    input_bias: torch.Tensor | None,
    hidden_bias: torch.Tensor | None,
    mode: str,
    input_kind: str,
    hidden_kind: str,
    input_group: int,
    hidden_group: int,
    size: int,
    reverse: bool,
) -> Result:
    """Return a layer's outputs [steps, batch, size] and its last hidden and cell states [batch, size].

    x: float32 [steps, batch, columns]. hidden and, for mode "lstm", cell: [batch, size]; other modes ("gru",
    "rnn_tanh", "rnn_relu") give an empty cell. Weights are [gates * size, columns] and [gates * size, size], gates in
    torch's order, as arrays of cpu_store.layout. With float64 x all is computed in float64, nothing quantised.
    Raises HotbenchError for what does not fit together.
    """
    if mode not in GATES or x.dim() != 3 or (mode == "lstm") != (cell is not None):
        raise HotbenchError(f"x {list(x.shape)} in the mode {mode!r}: give [steps, batch, columns], a mode of {GATES}")
    steps, batch, columns = x.shape
    rows = GATES[mode] * size
    if x.dtype is torch.float64:
        weights = (
            matrix(input_kind, rows, columns, input_group, input_arrays),
            matrix(hidden_kind, rows, size, hidden_group, hidden_arrays),
        )
        return reference_recurrent(x, hidden, cell, weights, (input_bias, hidden_bias), mode, reverse)
    of_inputs = call_of(input_kind, rows, columns, input_group, *input_arrays)
    of_hidden = call_of(hidden_kind, rows, size, hidden_group, *hidden_arrays)
    x = checked_input(x, columns)
    last = checked_state(hidden, batch, size)
    last_cell = checked_state(cell, batch, size) if cell is not None else x.new_empty(0)
    biases = [0 if bias is None else checked_bias(bias, rows) for bias in (input_bias, hidden_bias)]
    threads = torch.get_num_threads()
    out, gates = x.new_empty(steps, batch, size), x.new_empty(steps * batch, rows)
    if steps * batch == 0:
        return out, last, last_cell
    room = max(of_inputs.workspace_bytes(steps * batch, threads), scratch_bytes(mode, of_hidden, batch, threads))
    scratch = x.new_empty(room, dtype=torch.uint8)
    of_inputs(x.data_ptr(), steps * batch, gates.data_ptr(), scratch.data_ptr(), 0, biases[0], threads)
    state = State(gates.data_ptr(), last.data_ptr(), last_cell.data_ptr(), out.data_ptr(), biases[1])
    run_layer(mode, of_hidden, state, steps, batch, reverse, scratch.data_ptr(), threads)
    return out, last, last_cell


def checked_state(state: torch.Tensor, batch: int, size: int) -> torch.Tensor:
    """Return a copy of a state [batch, size]. Raises HotbenchError for another shape, dtype or device."""
    if state.shape != (batch, size) or state.dtype is not torch.float32 or not state.is_cpu:
        given = f"{str(state.dtype).removeprefix('torch.')} {list(state.shape)} on {state.device}"
        raise HotbenchError(f"the initial state is {given}; this layer takes float32 [{batch}, {size}] on the CPU")
    return state.detach().clone(memory_format=torch.contiguous_format)


def _fake(
    x: torch.Tensor,
    hidden: torch.Tensor,
    cell: torch.Tensor | None,
    input_arrays: Sequence[torch.Tensor],
    hidden_arrays: Sequence[torch.Tensor],
    input_bias: torch.Tensor | None,
    hidden_bias: torch.Tensor | None,
    mode: str,
    input_kind: str,
    hidden_kind: str,
    input_group: int,
    hidden_group: int,
    size: int,
    reverse: bool,
) -> Result:
    steps, batch, _ = x.shape
    last_cell = x.new_empty((0,)) if cell is None else x.new_empty((batch, size))
    return x.new_empty((steps, batch, size)), x.new_empty((batch, size)), last_cell


recurrent_op = register(SCHEMA, quantized_recurrent, _fake)
