import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.compiler.ir import IrError, Region
from kernels.compiler.reference import evaluate
from tests.kernels.compiler.regions import Builder, copies, layer_norm, points, random_arrays, random_region, softmax

SCALARS = {
    "neg": lambda x: -x,
    "abs": abs,
    "exp": lambda x: math.inf if x >= 709.0 else math.exp(x),
    "tanh": math.tanh,
    "sigmoid": lambda x: 0.0 if x <= -700.0 else 1.0 / (1.0 + math.exp(-x)),
    "erf": math.erf,
    "relu": lambda x: x if not x < 0.0 else 0.0,
    "floor": lambda x: float(math.floor(x)) if math.isfinite(x) else x,
    "sqrt": lambda x: math.sqrt(x) if x >= 0.0 else math.nan,
    "log1p": lambda x: -math.inf if x == -1.0 else math.nan if x < -1.0 else math.log1p(x),
    "sign": lambda x: float((x > 0.0) - (x < 0.0)),
    "add": lambda x, y: x + y,
    "sub": lambda x, y: x - y,
    "mul": lambda x, y: x * y,
    "maximum": lambda x, y: math.nan if math.isnan(x) or math.isnan(y) else max(x, y),
    "minimum": lambda x, y: math.nan if math.isnan(x) or math.isnan(y) else min(x, y),
    "lt": lambda x, y: x < y,
    "where": lambda c, x, y: x if c else y,
    "cast": float,
}


def by_hand(region: Region, arrays: list) -> None:
    """Evaluate point by point in Python floats: a second opinion that shares no code with the interpreter."""
    before = [array.copy() for array in arrays]
    first = len(region.domain) - region.reduced
    memory: dict = {}

    def element(access, point) -> int:
        return access.offset + sum(stride * i for stride, i in zip(access.strides, point, strict=True))

    def value(position, point):
        if (position, point) not in memory:
            memory[position, point] = compute(region.values[position], point)
        return memory[position, point]

    def compute(node, point):
        if node.op == "load":
            return float(before[node.access.buffer][element(node.access, point)])
        if node.op == "constant":
            return node.constant
        if node.op == "index":
            return point[node.axis]
        if node.op.startswith("reduce_"):
            items = [value(node.operands[0], point[:first] + rest) for rest in points(region.domain[first:])]
            if node.op == "reduce_sum":
                return sum(items)
            if any(math.isnan(item) for item in items):
                return math.nan
            return max(items) if node.op == "reduce_max" else min(items)
        return SCALARS[node.op](*(value(operand, point) for operand in node.operands))

    for store in region.stores:
        for point in points(region.domain):
            arrays[store.access.buffer][element(store.access, point)] = value(store.value, point)


@given(st.integers(0, 2**32))
@settings(max_examples=200, deadline=None)
def test_interpreter_agrees_with_evaluation_point_by_point(seed):
    rng = np.random.default_rng(seed)
    region = random_region(rng)
    arrays = random_arrays(region, rng)
    expected, exact = copies(region, arrays, "float64"), copies(region, arrays, "float64")
    by_hand(region, expected)
    evaluate(region, exact, exact=True)
    for want, got in zip(expected, exact, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-9)


def test_layer_norm_and_softmax_match_their_formulas():
    rng = np.random.default_rng(7)
    region = layer_norm(3, 11)
    arrays = random_arrays(region, rng)
    evaluate(region, arrays)
    x = arrays[0].reshape(3, 11).astype(np.float64) + arrays[1].reshape(3, 11)
    scaled = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(arrays[4].reshape(3, 11), scaled * arrays[2] + arrays[3], rtol=1e-5, atol=1e-5)
    region = softmax(5, 9, in_place=True)
    arrays = random_arrays(region, rng)
    x = np.exp(arrays[0].reshape(5, 9).astype(np.float64))
    evaluate(region, arrays)
    np.testing.assert_allclose(arrays[0].reshape(5, 9), x / x.sum(1, keepdims=True), rtol=1e-5)


def test_summing_a_row_level_value_counts_it_once_a_point():
    b = Builder(4, 3, reduced=1)
    b.output(b.value("reduce_sum", b.load(b.buffer(4), 1, 0)), 1, 0, elements=4)
    arrays = [np.arange(4, dtype=np.float32), np.zeros(4, np.float32)]
    evaluate(b.region(), arrays)
    assert arrays[1].tolist() == [0.0, 3.0, 6.0, 9.0]


def test_exact_evaluation_computes_in_float64():
    b = Builder(1)
    big = b.value("add", b.load(b.buffer(1), 1), b.constant(1e-9))
    b.output(big, 1, elements=1)
    arrays = [np.ones(1, np.float32), np.zeros(1, np.float64)]
    evaluate(b.region(), arrays, exact=True)
    assert arrays[1][0] == 1.0 + 1e-9


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ([np.zeros(3, np.float32)], "1 arrays for 2 buffers"),
        ([np.zeros(3, np.float64), np.zeros(4, np.float32)], "flat float32 array, not float64"),
        ([np.zeros(2, np.float32), np.zeros(4, np.float32)], "needs 3 elements, its array has 2"),
        ([np.zeros((3, 1), np.float32), np.zeros(4, np.float32)], "flat float32 array"),
    ],
)
def test_arrays_that_do_not_fit_are_named(arrays, message):
    b = Builder(3)
    b.output(b.load(b.buffer(3), 1), 1, elements=3)
    with pytest.raises(IrError, match=message):
        evaluate(b.region(), arrays)
