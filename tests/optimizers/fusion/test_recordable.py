"""What a recording must not hold: values that were read on the way, by ops, by Python, or by torch's own layers."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from optimizers.fusion.capture import ModelCall, UnfusableError, capture
from optimizers.fusion.recordable import reads_no_values, why_not
from optimizers.fusion.recording import CaughtError, UnrecordableError, record
from optimizers.fusion.recording_settings import compiling, layers_in_parts
from tests.optimizers.fusion.interpreted import Function, assert_same

aten = torch.ops.aten


def encoder(**options: Any) -> nn.TransformerEncoder:
    return nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2, **options).eval()


def test_an_op_whose_shape_comes_from_values_is_not_recorded() -> None:
    def packed(x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        return torch.tanh(nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True).data)

    lengths = torch.tensor([5, 4, 2])
    with pytest.raises(UnrecordableError, match="may depend on values"):
        record(lambda *flat: [packed(*flat)], [torch.randn(3, 5, 4), lengths])
    with pytest.raises(UnfusableError):
        capture(Function(packed), (torch.randn(3, 5, 4), lengths), {})


@pytest.mark.parametrize(
    ("op", "args"),
    [
        (aten.mm.default, (torch.randn(3, 4), torch.randn(4, 5))),
        (aten.linear.default, (torch.randn(3, 4), torch.randn(5, 4))),
        (aten.histc.default, (torch.randn(9), 5)),
        (aten.zeros.default, ([3, 4],)),
        (aten.chunk.default, (torch.randn(5, 4), 2)),
    ],
)
def test_ops_of_layouts_alone_are_told_from_others(op: Any, args: tuple[Any, ...]) -> None:
    assert not why_not(op) and reads_no_values(op, args, {}, op(*args))


def test_out_that_is_given_a_size_by_values_is_told() -> None:
    x, out = torch.tensor([1, 7]), torch.empty(0, dtype=torch.int64)
    assert not reads_no_values(aten.bincount.out, (x,), {"out": out}, aten.bincount.out(x, out=out))


@pytest.mark.parametrize(
    "largest",
    [
        lambda x: float(x.max()),
        lambda x: max(max(row) for row in x.tolist()),
        lambda x: x.numpy().max(),
        lambda x: np.asarray(x).max(),
    ],
)
def test_forward_that_hides_that_it_reads_values_is_refused(largest: Callable[[torch.Tensor], float]) -> None:
    def function(x: torch.Tensor) -> torch.Tensor:
        try:
            if largest(x) > 100.0:
                return -x
        except Exception:
            pass
        return torch.tanh(x)

    x = torch.randn(3, 5)
    with pytest.raises(CaughtError):
        record(lambda *flat: [function(*flat)], [x])
    with pytest.raises(UnfusableError, match="catches an error"):
        capture(Function(function), (x,), {})


def test_layers_of_torch_are_recorded_op_by_op() -> None:
    model, x = encoder(), torch.randn(2, 5, 8)
    captured = capture(model, (x,), {})
    ops = {str(node.target) for node in captured.graph.graph.nodes}
    assert "aten.native_layer_norm.default" in ops and "aten._transformer_encoder_layer_fwd.default" not in ops
    assert torch.backends.mha.get_fastpath_enabled()
    with torch.no_grad():
        assert_same(captured.graph(*model.parameters(), x), [model(x)])


def test_masked_layers_stay_one_op_since_their_parts_differ_in_rows_that_are_masked_wholly() -> None:
    model, x = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval(), torch.randn(2, 5, 8)
    captured = capture(model, (x,), {"src_key_padding_mask": torch.zeros(2, 5, dtype=torch.bool)})
    assert "aten._transformer_encoder_layer_fwd.default" in {str(node.target) for node in captured.graph.graph.nodes}


@pytest.mark.parametrize("mask_check", [True, False])
def test_encoder_that_computes_by_its_padding_mask_is_refused(mask_check: bool) -> None:
    mask = torch.zeros(2, 5, dtype=torch.bool)
    inputs = (torch.randn(2, 5, 8),), {"src_key_padding_mask": mask}
    with pytest.raises(UnfusableError, match="enable_nested_tensor=False"):
        capture(encoder(mask_check=mask_check), *inputs)
    assert ModelCall(encoder(enable_nested_tensor=False), *inputs).recording() is not None


def test_settings_are_put_back_whatever_other_threads_do() -> None:
    before = torch.compiler._is_compiling_flag, torch.backends.mha.get_fastpath_enabled()

    def change() -> None:
        for _ in range(200):
            with compiling(), layers_in_parts():
                pass

    threads = [threading.Thread(target=change) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (torch.compiler._is_compiling_flag, torch.backends.mha.get_fastpath_enabled()) == before


def test_output_that_was_written_into_other_memory_lies_as_eagers_does() -> None:
    def function(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        made, other = torch.empty(3, 5), torch.empty(3, 5)
        torch.mul(x, 2.0, out=made)
        other.copy_(torch.tanh(x))
        return made, torch.tanh(other)

    x = torch.randn(5, 3).t()
    outputs = capture(Function(function), (x,), {}).graph(x)
    for ours, theirs in zip(outputs, function(x), strict=True):
        assert torch.equal(ours, theirs) and ours.stride() == theirs.stride()


def test_output_in_an_order_that_no_copy_gives_is_refused() -> None:
    def function(x: torch.Tensor) -> torch.Tensor:
        made = torch.empty(7, 3).t()
        return torch.mul(x, 2.0, out=made)

    with pytest.raises(UnfusableError, match="order"):
        capture(Function(function), (torch.randn(3, 7),), {})
