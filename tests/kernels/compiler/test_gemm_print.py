"""Printed matrix products, compiled, against float64: any size, any strides, every form and target."""

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from kernels.compiler.gemm import Product, Term, plan
from kernels.compiler.gemm_pack import packed, panels
from kernels.compiler.gemm_print import Epilogue, Into, Place, print_product, shares
from kernels.compiler.gemm_target import AVX2, AVX512, NEON, PORTABLE, host_target
from kernels.compiler.ir import IrError
from kernels.compiler.source import Source
from tests.kernels.compiler.gemm_cases import Case, Operand, compiled

EPSILON = float(np.finfo(np.float32).eps)
PACKED = Operand("packed", 0)


def check(case: Case) -> None:
    got = case.run()
    error = np.abs(got - case.exact()) / case.magnitude()
    assert error.max() <= 16 * EPSILON
    assert case.untouched()


# A failing example is not made smaller: each one is a compilation.
@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
@given(
    seed=st.integers(0, 2**32 - 1),
    target=st.sampled_from((AVX512, AVX2, NEON, PORTABLE)),
    rows=st.one_of(st.integers(1, 3), st.integers(1, 40)),
    columns=st.one_of(st.integers(1, 40), st.integers(1, 140)),
    groups=st.sampled_from((1, 1, 2, 3, 4)),
    terms=st.lists(
        st.tuples(
            st.one_of(st.integers(0, 40), st.integers(250, 700)),
            st.builds(Operand, st.sampled_from(("rows", "columns", "packed", "odd")), st.integers(0, 5)),
        ),
        min_size=1,
        max_size=2,
    ),
    accumulate=st.booleans(),
    spread=st.sampled_from((1, 1, 2)),
)
def test_any_product_agrees_with_float64_and_leaves_its_surroundings_alone(
    seed, target, rows, columns, groups, terms, accumulate, spread
):
    layouts = {operand.layout for _, operand in terms}
    if "packed" in layouts and layouts - {"packed", "rows"}:
        terms = [(depth, PACKED) for depth, _ in terms]
    check(Case(np.random.default_rng(seed), target, rows, columns, groups, terms, accumulate, spread))


@pytest.mark.parametrize("layout", ["packed", "columns"])
def test_long_sums_are_as_accurate_as_blocked_ones(layout):
    rng = np.random.default_rng(5)
    terms = [(20000, Operand(layout, 0))]
    case = Case(rng, host_target(), 1, 5, 1, terms, False, draw=rng.random)
    got = case.run()
    blocked = np.abs(got / case.exact() - 1).max()
    chain = np.cumsum(case.a[0][0][:, None] * case.b[0][:, 0], axis=0, dtype=np.float32)[-1]
    assert blocked < 4e-7
    assert blocked < np.abs(chain / case.exact()[0, 0] - 1).max()


@pytest.mark.parametrize("layout", ["packed", "rows", "columns", "odd"])
def test_special_values_reach_the_elements_that_they_belong_to_and_no_others(layout):
    case = Case(np.random.default_rng(3), host_target(), 7, 37, 1, [(29, Operand(layout, 2))], False)
    case.a[0][1, 3], case.a[0][2, 5], case.a[0][4, 28] = np.nan, np.inf, -np.inf
    case.b[0][5, 0, 36], case.b[0][28, 0, 4] = 0.0, np.inf
    case.a[0][6] = 1e-42
    if layout == "packed":
        case.passed = [packed(case.b[0], panels(case.product, case.plan))]
    got = case.run()
    with np.errstate(invalid="ignore"):
        exact = case.exact()
    np.testing.assert_array_equal(np.isnan(got), np.isnan(exact))
    infinite = np.isinf(exact)
    np.testing.assert_array_equal(got[infinite], exact[infinite])
    finite = np.isfinite(exact)
    np.testing.assert_allclose(got[finite], exact[finite], rtol=1e-4, atol=1e-5)
    denormal = exact[6][np.isfinite(exact[6])]
    assert 0 < np.abs(denormal).max() < 1e-38
    np.testing.assert_allclose(got[6][np.isfinite(exact[6])], denormal, rtol=1e-3, atol=2e-44)


@pytest.mark.parametrize("layout", ["packed", "odd"])
def test_shares_of_the_work_add_up_to_all_of_it(layout):
    rng = np.random.default_rng(11)
    case = Case(rng, AVX2, 5, 301, 1, [(17, Operand(layout, 2))], False, share=("begin", "end"))
    count = shares(case.product, case.plan)
    assert count > 2
    case.run(1, count)
    case.run(0, 1)
    assert (np.abs(case.c - case.exact()) <= 16 * EPSILON * case.magnitude()).all()
    assert case.untouched()


def test_panels_from_the_last_to_the_first_give_the_same_numbers():
    term = Term(19, (19, 1), None)
    product = Product(2, 150, (term,))
    chosen = plan(product, AVX2, panel=16)
    into = Into(Place("b2", 2), (150, 0, 1))
    kernel = compiled(product, chosen, into, 3, ("begin", "end"), reverse="b2 * 0 + 1")
    rng = np.random.default_rng(4)
    a, b = (rng.standard_normal(shape).astype(np.float32) for shape in ((2, 19), (19, 1, 150)))
    out = np.zeros((2, 150), np.float32)
    layout = packed(b, panels(product, chosen))
    for begin, end in ((3, shares(product, chosen)), (0, 3)):
        kernel(a.ctypes.data, layout.ctypes.data, out.ctypes.data, begin, end)
    np.testing.assert_allclose(out, a.astype(np.float64) @ b[:, 0], rtol=0, atol=1e-5)


def test_a_share_leaves_the_rest_alone():
    case = Case(np.random.default_rng(11), AVX2, 5, 301, 1, [(17, PACKED)], False, share=("begin", "end"))
    case.run(1, 2)
    panel = case.plan.panel
    np.testing.assert_array_equal(case.c[:, :, :panel], case.before[:, :, :panel])
    np.testing.assert_array_equal(case.c[:, :, 2 * panel :], case.before[:, :, 2 * panel :])
    assert (case.c[:, :, panel : 2 * panel] != case.before[:, :, panel : 2 * panel]).all()


@pytest.mark.parametrize(("rows", "units", "width"), [(1, 33, 20), (5, 16, 48), (13, 70, 7)])
def test_an_epilogue_sees_all_gates_of_a_unit(rows, units, width):
    """An LSTM cell: x @ W + h @ U in one sum, the gates applied to each tile."""
    rng = np.random.default_rng(rows)
    product = Product(rows, units, (Term(width, (width, 1), None), Term(units, (units, 1), None)), groups=4)
    chosen = plan(product)

    def body(source, point):
        at = f"{units} * {point.row} + {point.column}"
        sums = [f"({value} + load_float32(b4, {k * units} + {point.column}, 4))" for k, value in enumerate(point.sums)]
        i, f, g, o = sums
        source.line(
            f"cell = sigmoid_float32({f}) * load_float32(b5, {at}, 5) + sigmoid_float32({i}) * tanh_float32({g})"
        )
        source.line(f"store_float32(b5, {at}, cell, 5)")
        source.line(f"store_float32(b6, {at}, sigmoid_float32({o}) * tanh_float32(cell), 6)")

    kernel = compiled(product, chosen, Epilogue(body, 7), 7)

    def draw(*shape):
        return rng.standard_normal(shape).astype(np.float32)

    x, h, c, bias = draw(rows, width), draw(rows, units), draw(rows, units), draw(4, units)
    w, u = draw(4, units, width), draw(4, units, units)
    layouts = [packed(m.transpose(2, 0, 1), panels(product, chosen, k)) for k, m in enumerate((w, u))]
    out, cell = np.zeros_like(h), c.copy()
    kernel(*(array.ctypes.data for array in (x, layouts[0], h, layouts[1], bias, cell, out)))

    x, h, c, bias, w, u = (array.astype(np.float64) for array in (x, h, c, bias, w, u))
    i, f, g, o = (x @ w[k].T + h @ u[k].T + bias[k] for k in range(4))

    def sigmoid(z):
        return 1 / (1 + np.exp(-z))

    expected = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    np.testing.assert_allclose(cell, expected, rtol=0, atol=3e-6)
    np.testing.assert_allclose(out, sigmoid(o) * np.tanh(expected), rtol=0, atol=3e-6)


def test_every_access_of_a_tile_names_its_scope():
    case = Case(np.random.default_rng(1), AVX512, 9, 100, 1, [(33, Operand("rows", 1))], True, spread=2)
    (text,) = case.kernel.inspect_llvm().values()
    body = text[: text.index("\n}")].splitlines()
    accesses = [line for line in body if (" load float" in line or " load <16" in line or "masked.load" in line)]
    stores = [line for line in body if ("store <16 x float>" in line or "store float" in line)]
    assert len(accesses) > 10 and stores
    assert [line for line in (*accesses, *stores) if "!noalias" not in line] == []


@pytest.mark.skipif(host_target() is not AVX512, reason="the registers of AVX-512 are not here to be counted")
@pytest.mark.parametrize(("rows", "columns"), [(1, 256), (2, 192), (3, 128), (4, 64), (6, 64), (8, 48), (12, 32)])
def test_the_sums_stay_in_registers(rows, columns):
    product = Product(rows, columns, (Term(128, (128, 1), None),))
    chosen = plan(product, AVX512, panel=columns)
    assert chosen.rows == ((1, rows),)
    kernel = compiled(product, chosen, Into(Place("b2", 2), (columns, 0, 1)), 3)
    (text,) = kernel.inspect_asm().values()
    assert "vfmadd" in text and "zmm" in text
    assert "64-byte Spill" not in text and "64-byte Folded Spill" not in text


def test_operands_must_be_as_many_as_the_terms():
    product = Product(1, 4, (Term(3, (3, 1), None),))
    with pytest.raises(IrError, match="g5 has 1 terms and 0 operands"):
        print_product(Source(), "g5", product, plan(product), [], Into(Place("b2", 2), (4, 0, 1)))


def test_panels_cannot_be_mixed_with_strides_that_no_vector_follows():
    product = Product(2, 4, (Term(3, (3, 1), None), Term(3, (3, 1), (1, 0, 3))))
    places = [(Place("b0", 0), Place("b1", 1))] * 2
    with pytest.raises(IrError, match="pack every B"):
        print_product(Source(), "g0", product, plan(product), places, Into(Place("b2", 2), (4, 0, 1)))
