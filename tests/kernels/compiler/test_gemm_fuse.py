"""A region applied to a product tile by tile, against the two one after the other in float64."""

from dataclasses import replace

import numpy as np
import pytest

from kernels.compiler.gemm import Product, Term, plan
from kernels.compiler.gemm_fuse import Fused, fuse, print_fused
from kernels.compiler.gemm_pack import packed, panels
from kernels.compiler.gemm_print import Place
from kernels.compiler.gemm_print_pack import print_pack
from kernels.compiler.passes import simplify
from kernels.compiler.reference import evaluate
from kernels.compiler.source import Source
from tests.kernels.compiler.gemm_cases import HEADER
from tests.kernels.compiler.regions import Builder, copies, lstm_cell, random_arrays, softmax


def chosen_region(name: str, rows: int, columns: int):
    if name == "lstm":
        return lstm_cell(rows, columns)
    b = Builder(rows, columns)
    product = b.buffer(3 * rows * columns if name == "gru" else rows * columns)
    if name == "gru":
        z, r, n = (b.load(product, 3 * columns, 1, offset=k * columns) for k in range(3))
        state = b.buffer(rows * columns, written=True)
        old = b.load(state, columns, 1)
        new = b.value("tanh", b.value("mul", b.value("sigmoid", r), n))
        z = b.value("sigmoid", z)
        mixed = b.value("add", b.value("mul", z, old), b.value("mul", b.value("sub", b.constant(1.0), z), new))
        b.store(mixed, state, columns, 1)
    else:
        x = b.load(product, columns, 1)
        b.output(
            b.value("relu", b.value("add", x, b.load(b.buffer(columns), 0, 1))), columns, 1, elements=rows * columns
        )
    return b.region()


def run(fused: Fused, arrays, a, w, unpacked: bool):
    """Compile the fused product, weights packed by a kernel of its own, and run it on copies of the arrays."""
    product, depth = fused.product, a.shape[1]
    if unpacked:
        strides = (w.strides[0] // 4, product.columns * w.strides[1] // 4, w.strides[1] // 4)
        product = replace(product, terms=(replace(product.terms[0], b=strides),))
    else:
        product = replace(product, terms=(replace(product.terms[0], b=None),))
    fused = replace(fused, product=product)
    chosen = plan(product)
    source, layout = Source(), panels(product, chosen)
    names = [f"b{k}" for k in range(len(arrays))]
    source.line('@numba.njit(error_model="numpy", boundscheck=False)')
    with source.block(f"def kernel(left, right, {', '.join(names)}):"):
        definitions = print_fused(source, "g", fused, chosen, [(Place("left", 20), Place("right", 21))], 22)
        source.line("return")
    source.line('@numba.njit(error_model="numpy", boundscheck=False)')
    with source.block("def packing(right, out):"):
        strides = (w.strides[0] // 4, product.columns * w.strides[1] // 4, w.strides[1] // 4)
        print_pack(source, "p", layout, strides, Place("right", 0), Place("out", 1))
        source.line("return")
    space = {}
    prelude = HEADER.replace("import sigmoid", "import int32_of_float32, sigmoid")
    exec(
        compile(
            "\n".join((prelude, "from kernels.compiler.intrinsics import *", *definitions, source.text())),
            "<k>",
            "exec",
        ),
        space,
    )
    right = w
    if not unpacked:
        right = np.full(layout.elements + 16, 7.0, np.float32)
        space["packing"](w.ctypes.data, right.ctypes.data)
        expected = packed(w.reshape(depth, product.groups, product.columns), layout)
        np.testing.assert_array_equal(right[: layout.elements], expected)
        assert (right[layout.elements :] == 7.0).all()
    space["kernel"](a.ctypes.data, right.ctypes.data, *(array.ctypes.data for array in arrays))
    return arrays


@pytest.mark.parametrize("unpacked", [False, True])
@pytest.mark.parametrize(
    ("name", "rows", "columns", "depth"),
    [("lstm", 1, 33, 20), ("lstm", 5, 20, 33), ("gru", 7, 37, 11), ("plain", 6, 40, 9), ("plain", 4, 1, 9)],
)
def test_a_fused_region_gives_what_the_two_give_one_after_the_other(name, rows, columns, depth, unpacked):
    region = chosen_region(name, rows, columns)
    region = simplify(region) if unpacked else region
    rng = np.random.default_rng(rows)
    across = region.buffers[0].elements // rows
    a = rng.standard_normal((rows, depth)).astype(np.float32)
    # as torch's w.t() where it is packed, as w where it is read in place
    w = rng.standard_normal((depth, across) if unpacked else (across, depth)).astype(np.float32)
    w = w if unpacked else w.T
    arrays = random_arrays(region, rng)
    exact = copies(region, arrays, "float64")
    exact[0][:] = (a.astype(np.float64) @ w.astype(np.float64)).ravel()
    evaluate(region, exact, exact=True)
    arrays[0][:] = np.nan  # the product never goes there, nor is it read
    made = fuse(Product(rows, across, (Term(depth, (depth, 1), None),)), region, 0, across)
    assert isinstance(made, Fused)
    got = run(made, arrays, a, w, unpacked)
    for buffer, value, want in zip(region.buffers, got, exact, strict=True):
        if buffer.written:
            np.testing.assert_allclose(value, want, rtol=0, atol=1e-5)
    assert np.isnan(got[0]).all()


def product(rows: int, columns: int) -> Product:
    return Product(rows, columns, (Term(5, (5, 1), None),))


def test_the_gates_become_the_groups_of_a_tile():
    made = fuse(product(3, 28), lstm_cell(3, 7), 0, 28)
    assert isinstance(made, Fused)
    assert (made.product.groups, made.product.columns) == (4, 7) and sorted(made.groups.values()) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("region", "rows", "columns", "stride", "words"),
    [
        (softmax(3, 28), 3, 28, 28, "reduces"),
        (lstm_cell(3, 7), 4, 28, 28, "is not the product's 4 rows"),
        (lstm_cell(3, 7), 3, 30, 28, "is not the product's 3 rows"),
        (lstm_cell(3, 7), 3, 28, 29, "in another order"),
        (lstm_cell(3, 7), 3, 21, 28, "reads behind it"),
    ],
)
def test_what_cannot_be_fused_says_why(region, rows, columns, stride, words):
    reason = fuse(product(rows, columns), region, 0, stride)
    assert isinstance(reason, str) and words in reason and "\n" not in reason


def test_a_region_that_stores_over_the_product_is_not_fused():
    b = Builder(3, 7)
    x = b.buffer(21, written=True)
    b.store(b.value("exp", b.load(x, 7, 1)), x, 7, 1)
    assert "stores where the product lies" in fuse(product(3, 7), b.region(), 0, 7)
