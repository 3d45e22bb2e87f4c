"""A sign that is claimed holds for every input; what only the other sign would need is left out."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.compiler.compile import compile_kernel
from kernels.compiler.print_numba import print_numba
from kernels.compiler.reference import evaluate
from kernels.compiler.signs import never_positive, signs
from tests.kernels.compiler.regions import Builder, softmax

UNARY = ("neg", "abs", "exp", "relu", "sqrt", "sigmoid", "tanh", "rsqrt", "reciprocal", "erf", "expm1", "sign", "floor")
BINARY = ("add", "sub", "mul", "div", "maximum", "minimum")
SPECIAL = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-40, -1e-40, 3e38, -3e38, 1.0, -1.0, 104.5, -104.5]


@st.composite
def regions(draw):
    """Return a region of random ops over two inputs and a constant; each value is stored."""
    count = len(SPECIAL) ** 2
    b = Builder(count)
    values = [b.load(b.buffer(count), 1), b.load(b.buffer(count), 1)]
    values.append(b.constant(draw(st.sampled_from([-2.0, -0.0, 0.5]))))
    for _ in range(draw(st.integers(1, 9))):
        op = draw(st.sampled_from((*UNARY, *BINARY, "where")))
        operands = [draw(st.sampled_from(values)) for _ in range(1 if op in UNARY else 2)]
        if op == "where":
            operands = [b.value("lt", *operands, dtype="bool"), *operands]
        values.append(b.value(op, *operands, dtype="float32"))
    for value in values:
        b.output(value, 1, elements=count)
    return b.region()


@settings(max_examples=150, deadline=None)
@given(regions())
def test_a_claimed_sign_holds_for_special_values(region):
    pairs = np.array([(x, y) for x in SPECIAL for y in SPECIAL], np.float32)
    arrays = [pairs[:, 0].copy(), pairs[:, 1].copy(), *(np.zeros(len(pairs), np.float32) for _ in region.stores)]
    evaluate(region, arrays)
    claimed = signs(region)
    for store in region.stores:
        below, above = (arrays[store.access.buffer] < 0).any(), (arrays[store.access.buffer] > 0).any()
        assert not (claimed[store.value][0] and below) and not (claimed[store.value][1] and above)


def test_integers_have_no_sign_since_they_wrap():
    b = Builder(3)
    x = b.load(b.buffer(3, "int32"), 1)
    square = b.value("mul", x, x)
    b.output(b.value("cast", square, dtype="float32"), 1, elements=3)
    b.output(b.value("cast", b.value("abs", x), dtype="float32"), 1, elements=3)
    assert set(signs(b.region())) == {(False, False)}


def test_a_softmax_takes_the_exponential_of_what_is_never_positive():
    region = softmax(3, 40)
    (difference,) = (k for k, value in enumerate(region.values) if value.op == "sub")
    assert never_positive(region, difference)
    assert "exp_nonpositive_float32(" in print_numba(region, "kernel")


def test_the_exponential_of_what_is_never_positive_is_that_of_any_number(kernel_cache):
    rng = np.random.default_rng()
    bits = rng.integers(0, 2**32, 20_000, dtype=np.uint32).view(np.float32)
    near = (-120.0 * rng.random(20_000)).astype(np.float32)
    values = np.concatenate([np.array(SPECIAL, np.float32), bits, near])
    b = Builder(values.size)
    x = b.load(b.buffer(values.size), 1)
    b.output(b.value("exp", b.value("minimum", x, b.constant(-0.0))), 1, elements=values.size)
    b.output(b.value("exp", x), 1, elements=values.size)
    below, usual = (np.zeros(values.size, np.float32) for _ in range(2))
    region = b.region()
    assert "exp_nonpositive_float32(" in print_numba(region, "kernel")
    compile_kernel(region, kernel_cache)(*(array.ctypes.data for array in (values, below, usual)))
    expected = np.where(values > 0, np.float32(1.0), usual)
    np.testing.assert_array_equal(below, expected)
