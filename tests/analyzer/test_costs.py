"""FLOPs and bytes against the framework's own counter and against hand counts."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from analyzer import costs
from analyzer.graph import Tensor
from tests.analyzer.capture.small import capture_function, executed

SIDE = st.integers(1, 9)


def counted(function, *inputs):
    with FlopCounterMode(display=False) as counter:
        result = function(*inputs)
    return counter.get_total_flops(), tuple(result.shape)


@settings(max_examples=25, deadline=None)
@given(SIDE, SIDE, SIDE, SIDE)
def test_matrix_products_agree_with_the_frameworks_counter(b, m, k, n):
    left, right = torch.rand(m, k), torch.rand(k, n)
    for name, function, inputs in (
        ("aten::mm", torch.mm, (left, right)),
        ("aten::addmm", torch.addmm, (torch.rand(n), left, right)),
        ("aten::bmm", torch.bmm, (torch.rand(b, m, k), torch.rand(b, k, n))),
        ("aten::baddbmm", torch.baddbmm, (torch.rand(b, m, n), torch.rand(b, m, k), torch.rand(b, k, n))),
    ):
        expected, shape = counted(function, *inputs)
        assert (
            costs.flops(name, [tuple(t.shape) for t in inputs], [shape])
            == expected
            == (2 * m * k * n * (b if "bmm" in name else 1))
        )


@settings(max_examples=25, deadline=None)
@given(SIDE, st.integers(1, 3), SIDE, SIDE, st.integers(1, 3), st.booleans())
def test_convolutions_and_their_backward_agree_with_the_frameworks_counter(n, groups, c_in, c_out, kernel, transposed):
    channels_in, channels_out = groups * c_in, groups * c_out
    make = torch.nn.ConvTranspose2d if transposed else torch.nn.Conv2d
    layer = make(channels_in, channels_out, kernel, stride=2, padding=kernel // 2, groups=groups, bias=False)
    data = torch.rand(n, channels_in, 7, 5, requires_grad=True)
    arguments = json.dumps([["transposed", transposed], ["output_mask", [True, True, False]]])
    expected, shape = counted(layer, data)
    shapes = [tuple(data.shape), tuple(layer.weight.shape)]
    assert costs.flops("aten::convolution", shapes, [shape], arguments) == expected
    result = layer(data)
    with FlopCounterMode(display=False) as counter:
        result.sum().backward()
    backward = costs.flops("aten::convolution_backward", [shape, *shapes], shapes, arguments)
    # Each of the two gradients takes as many products as the forward; the framework's counter forgets the groups there.
    assert backward == 2 * expected
    assert groups > 1 or backward == counter.get_total_flops()


@given(SIDE, SIDE, SIDE, SIDE, SIDE, SIDE)
def test_attention_agrees_with_the_frameworks_formula(b, h, q, k, d, e):
    query, key, value, result = (b, h, q, d), (b, h, k, d), (b, h, k, e), (b, h, q, e)
    name = "aten::_scaled_dot_product_flash_attention_for_cpu"
    assert costs.flops(name, [query, key, value], [result]) == sdpa_flop_count(query, key, value)
    backward = costs.flops(f"{name}_backward", [result, query, key, value], [query, key, value])
    assert backward == sdpa_backward_flop_count(result, query, key, value)


@pytest.mark.parametrize(
    ("name", "inputs", "outputs", "expected"),
    [
        ("aten::add", [(3, 5), (5,)], [(3, 5)], 15),
        ("aten::add_", [(3, 5), (3, 5)], [(3, 5)], 15),
        ("aten::tanh", [(7,)], [(7,)], 7),
        ("aten::addcmul_", [(7,), (7,), (7,)], [(7,)], 21),
        ("aten::sum", [(3, 5)], [(3,)], 15),
        ("aten::_softmax", [(3, 5)], [(3, 5)], 75),
        ("aten::linear", [(2, 3, 5), (7, 5), (7,)], [(2, 3, 7)], 2 * 6 * 5 * 7),
        ("aten::view", [(3, 5)], [(15,)], 0),
        ("aten::copy_", [(3, 5), (3, 5)], [(3, 5)], 0),
        ("custom::unheard_of", [(3, 5)], [(3, 5)], 0),
        ("aten::add", [(0, 5)], [(0, 5)], 0),
        ("aten::mm", [], [], 0),
    ],
)
def test_flops_by_hand(name, inputs, outputs, expected):
    assert costs.flops(name, inputs, outputs) == expected


def test_a_pooling_window_is_read_from_the_arguments():
    assert costs.flops("aten::max_pool2d_with_indices", [(1, 2, 6, 6)], [(1, 2, 3, 3)], '[["kernel_size",[2]]]') == 72


def tensor(index, shape, storage=None, strides=None, item=4):
    count = 1
    dense = []
    for size in reversed(shape):
        dense.insert(0, count)
        count *= size
    own = index if storage is None else storage
    return Tensor(index, own, 0, shape, strides or tuple(dense), "float32", "cpu", count * item, -1)


def test_each_tensor_moves_once():
    a, b, out = tensor(0, (3, 5)), tensor(1, (5,)), tensor(2, (3, 5))
    assert costs.bytes_moved("aten::add", [a, b], [out], []) == 60 + 20 + 60
    assert costs.bytes_moved("aten::mul", [a, a], [out], []) == 60 + 60


def test_a_broadcast_operand_moves_its_own_bytes_only():
    expanded = tensor(1, (3, 5), strides=(0, 1))
    assert costs.bytes_moved("aten::add", [tensor(0, (3, 5)), expanded], [tensor(2, (3, 5))], []) == 60 + 20 + 60


def test_views_and_allocations_move_nothing():
    base, view = tensor(0, (3, 5)), tensor(1, (5, 3), storage=0)
    for name in ("aten::t", "aten::as_strided", "aten::as_strided_", "aten::empty", "aten::resize_"):
        assert costs.bytes_moved(name, [base], [view], []) == 0
    # A cast to the type that it has already is a view, too.
    assert costs.bytes_moved("aten::to", [base], [base], []) == 0


def test_a_fill_moves_what_it_writes_and_a_copy_does_not_read_its_target():
    before, after, source = tensor(0, (3, 5)), tensor(1, (3, 5), storage=0), tensor(2, (3, 5))
    assert costs.bytes_moved("aten::zero_", [before], [after], [before]) == 60
    assert costs.bytes_moved("aten::copy_", [before, source], [after], [before]) == 120
    assert costs.bytes_moved("aten::add_", [before, source], [after], [before]) == 180


def test_a_gather_reads_what_it_hands_out():
    table, rows, out = tensor(0, (1000, 8)), tensor(1, (3,), item=8), tensor(2, (3, 8))
    assert costs.bytes_moved("aten::index_select", [table, rows], [out], []) == 96 + 24 + 96


def test_captured_ops_have_their_bytes():
    graph = capture_function(lambda x, y: torch.relu(x @ y), torch.rand(3, 5), torch.rand(5, 7)).graph
    (product,) = executed(graph, "mm")
    assert (product.flops, product.bytes_moved) == (2 * 3 * 5 * 7, 4 * (15 + 35 + 21))
    moved = [op for op in graph.ops if op.executes and op.bytes_moved]
    assert [op.bytes_moved for op in moved] == [4 * (15 + 35 + 21), 4 * (21 + 21)]
