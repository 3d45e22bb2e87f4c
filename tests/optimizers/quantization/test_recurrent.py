from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from analyzer.errors import HotbenchError
from optimizers.quantization.compressed import CODEBOOK, INT8, INT8_WEIGHT_ONLY
from optimizers.quantization.modules.base import dense
from optimizers.quantization.modules.recurrent import QuantizedCell, QuantizedRecurrent
from optimizers.quantization.modules.replace import replaced
from tests.optimizers.quantization.weights import of_parameters

LAYERS = (
    nn.LSTM(7, 19, 2, bidirectional=True),
    nn.LSTM(5, 16, batch_first=True, bias=False),
    nn.GRU(7, 33, 2, batch_first=True, bidirectional=True),
    nn.GRU(3, 4),
    nn.RNN(5, 33, 2),
    nn.RNN(4, 17, nonlinearity="relu"),
)
CELLS = (nn.LSTMCell(7, 9), nn.GRUCell(7, 19, bias=False), nn.RNNCell(5, 33), nn.RNNCell(5, 3, nonlinearity="relu"))


def both(module: nn.Module, method: str) -> tuple[nn.Module, nn.Module]:
    """Return the quantized layer, and torch's own with the same weights."""
    weights = of_parameters(module, method)
    found = replaced(module, weights)
    assert isinstance(found, QuantizedRecurrent | QuantizedCell)
    return found, dense(module, {name: torch.from_numpy(weight.dequantised()) for name, weight in weights.items()})


def tensors(value: Any) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    return [leaf for item in value for leaf in tensors(item)]


def close(got: Any, expected: Any, tolerance: float = 2e-6) -> bool:
    pairs = list(zip(tensors(got), tensors(expected), strict=True))
    return all(a.shape == b.shape and torch.allclose(a, b, rtol=0, atol=tolerance) for a, b in pairs)


@pytest.mark.parametrize("layer", LAYERS, ids=str)
@torch.inference_mode()
def test_layers_compute_what_torch_does_with_the_same_weights(layer: nn.RNNBase) -> None:
    quantized, own = both(layer, INT8_WEIGHT_ONLY)
    for steps, batch in ((11, 3), (1, 1)):
        x = (
            torch.randn(batch, steps, layer.input_size)
            if layer.batch_first
            else torch.randn(steps, batch, layer.input_size)
        )
        first, expected = quantized(x), own(x)
        assert close(first, expected)
        # on from the state that the first call left
        assert close(quantized(x, first[1]), own(x, first[1]))
    sequence = torch.randn(5, layer.input_size)
    assert close(quantized(sequence), own(sequence))
    state = quantized(sequence)[1]
    assert close(quantized(sequence, state), own(sequence, state))


@pytest.mark.parametrize("cell", CELLS, ids=str)
@torch.inference_mode()
def test_cells_compute_one_step(cell: nn.RNNCellBase) -> None:
    quantized, own = both(cell, INT8_WEIGHT_ONLY)
    x = torch.randn(4, cell.input_size)
    state = own(x)
    assert close(quantized(x), state) and close(quantized(x, state), own(x, state))
    single = own(x[0])
    assert close(quantized(x[0]), single) and close(quantized(x[0], single), own(x[0], single))


@pytest.mark.parametrize("method", [INT8, CODEBOOK])
@pytest.mark.parametrize("layer", LAYERS[:4], ids=str)
@torch.inference_mode()
def test_states_rounded_to_bytes_stay_near_over_many_steps(layer: nn.RNNBase, method: str) -> None:
    quantized, own = both(layer, method)
    x = torch.randn(2, 60, layer.input_size)
    x = x if layer.batch_first else x.transpose(0, 1)
    got, expected = quantized(x)[0], own(x)[0]
    assert float(torch.cosine_similarity(got.flatten(), expected.flatten(), 0)) > 0.999
    assert not torch.equal(got, expected)


@pytest.mark.parametrize("layer", [LAYERS[0], LAYERS[3], LAYERS[5]], ids=str)
@torch.inference_mode()
def test_float64_is_computed_in_float64(layer: nn.RNNBase) -> None:
    quantized, own = both(layer, INT8)
    x = torch.randn(6, 2, layer.input_size, dtype=torch.float64)
    got = quantized.double()(x)
    assert got[0].dtype is torch.float64 and close(got, own.double()(x), 1e-12)


@torch.inference_mode()
def test_threads_change_nothing() -> None:
    layer = nn.LSTM(64, 512)  # 1024 * 1024 weights: several threads share each step
    quantized, _ = both(layer, INT8)
    x = torch.randn(3, 1, 64)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = quantized(x)
        torch.set_num_threads(2)
        together = quantized(x)
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(tensors(alone), tensors(together), strict=True))


@torch.inference_mode()
def test_a_layer_with_some_of_its_weights_compressed_is_torchs_own_with_them() -> None:
    layer = nn.GRU(6, 5)
    weights = dict(of_parameters(layer, INT8))
    del weights["weight_hh_l0"]
    found = replaced(layer, weights)
    assert type(found) is nn.GRU
    assert torch.equal(found.weight_ih_l0, torch.from_numpy(weights["weight_ih_l0"].dequantised()))
    assert torch.equal(found.weight_hh_l0, layer.weight_hh_l0) and not found.weight_hh_l0.requires_grad


@torch.inference_mode()
def test_projections_stay_torchs_own() -> None:
    layer = nn.LSTM(6, 8, proj_size=3)
    assert type(replaced(layer, of_parameters(layer, INT8))) is nn.LSTM


@torch.inference_mode()
def test_no_steps_leave_the_state_as_it_was() -> None:
    quantized, _ = both(nn.LSTM(3, 4), INT8)
    state = (torch.randn(1, 2, 4), torch.randn(1, 2, 4))
    out, last = quantized(torch.randn(0, 2, 3), state)
    assert out.shape == (0, 2, 4) and all(torch.equal(a, b) for a, b in zip(last, state, strict=True))


def test_wrong_calls_are_errors_in_one_line() -> None:
    layer, cell = both(nn.LSTM(3, 4, 2, dropout=0.5), INT8)[0].eval(), both(nn.GRUCell(3, 4), INT8)[0]
    gru, x = both(nn.GRU(3, 4), INT8)[0], torch.randn(5, 2, 3)
    packed = nn.utils.rnn.pack_padded_sequence(x, torch.tensor([5, 2]))
    pair = (torch.randn(1, 2, 4), torch.randn(1, 2, 4))
    cases: list[tuple[Any, str]] = [
        (lambda: layer(packed), "takes no packed sequence; pass the padded batch"),
        (lambda: layer(torch.randn(5, 2, 4)), r"x is \[5, 2, 4\]; this layer takes \[steps, 3\]"),
        (lambda: layer.train()(x), "has no dropout; call model.eval"),
        (lambda: layer.eval()(x, pair), r"an initial state is \[1, 2, 4\]; this layer takes \[2, 2, 4\]"),
        (lambda: layer(x, pair[0]), "the state of a quantized lstm is a tuple of two"),
        (lambda: gru(x, pair), "the state of a quantized gru is one tensor"),
        (lambda: gru(x, pair[0].half()), "the initial state is float16"),
        (lambda: cell(torch.randn(2, 5)), r"x is \[2, 5\]; this cell takes \[batch, 3\]"),
        (lambda: cell(torch.randn(2, 3), torch.randn(1, 4)), r"the initial state is float32 \[1, 4\]"),
    ]
    for call, message in cases:
        with torch.no_grad(), pytest.raises(HotbenchError, match=message) as caught:
            call()
        assert "\n" not in str(caught.value)
