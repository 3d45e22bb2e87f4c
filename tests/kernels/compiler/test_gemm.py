"""How matrix products are cut into tiles."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels.compiler.gemm import Product, Term, plan, split
from kernels.compiler.gemm_pack import panels
from kernels.compiler.gemm_target import AVX2, AVX512, NEON, PORTABLE, host_target, target_of
from kernels.compiler.ir import IrError

TARGETS = st.sampled_from((AVX512, AVX2, NEON, PORTABLE))


@given(st.integers(1, 5000), st.integers(1, 64))
def test_pieces_cover_the_extent_and_differ_by_one_at_most(extent, most):
    pieces = split(extent, most)
    sizes = [size for count, size in pieces for _ in range(count)]
    assert sum(sizes) == extent and max(sizes) <= most
    assert max(sizes) - min(sizes) <= 1 and len(sizes) == -(-extent // most)


@given(st.integers(1, 200), st.integers(1, 3000), st.integers(1, 8), st.integers(0, 900), TARGETS, st.booleans())
def test_no_tile_has_more_sums_than_the_registers_hold(rows, columns, groups, depth, target, dots):
    b = (1, columns * depth, depth) if dots else None
    chosen = plan(Product(rows, columns, (Term(depth, (depth, 1), b),), groups), target)
    highest = max(size for _, size in chosen.rows)
    across = groups * (chosen.panel if chosen.form == "dots" else chosen.panel // target.width)
    assert highest * across <= max(target.sums, groups)
    assert sum(count * size for count, size in chosen.rows) == rows
    if chosen.form == "tiles":
        assert chosen.panel % target.width == 0 and chosen.panel < columns + target.width


def test_the_form_follows_the_strides_and_is_explained():
    def form(*terms):
        return plan(Product(5, 33, terms), AVX512)

    assert form(Term(7, (7, 1), None)).form == "tiles"
    assert form(Term(7, (1, 5), (33, 0, 1))).form == "tiles"
    assert form(Term(7, (7, 1), (1, 0, 7))).form == "dots"
    slow = form(Term(7, (1, 5), (1, 0, 7)))
    assert slow.form == "loops" and "pack B" in slow.reason
    assert form(Term(7, (7, 1), (33, 0, 1)), Term(7, (7, 1), (1, 0, 7))).form == "loops"


def test_a_large_product_gets_tiles_of_many_rows():
    many = plan(Product(320, 512, (Term(128, (128, 1), None),)), AVX512)
    assert max(size for _, size in many.rows) >= 4


def test_packed_panels_of_one_row_fit_the_first_level_cache_and_long_rows_are_read_in_wide_pieces():
    for depth in (64, 128, 200):
        one = plan(Product(1, 512, (Term(depth, (depth, 1), None),)), AVX512)
        assert one.rows == ((1, 1),) and one.panel >= 16 and one.panel * depth * 4 <= 32 << 10
        in_place = plan(Product(1, 512, (Term(depth, (depth, 1), (512, 0, 1)),)), AVX512)
        assert in_place.panel >= 256


def test_a_given_panel_is_kept_whatever_the_rows():
    term = Term(128, (128, 1), None)
    panel = plan(Product(1, 512, (term,)), AVX512, panel=64).panel
    assert panel == plan(Product(33, 512, (term,)), AVX512, panel=64).panel == 64
    with pytest.raises(IrError, match="20 columns is no multiple of 16 lanes"):
        plan(Product(1, 512, (term,)), AVX512, panel=20)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Product(0, 4, (Term(3, (3, 1), None),)), "empty result"),
        (lambda: Product(4, 4, ()), "no term"),
        (lambda: Product(4, 4, (Term(-1, (3, 1), None),)), "negative depth"),
    ],
)
def test_a_product_without_elements_is_refused(make, words):
    with pytest.raises(IrError, match=words):
        make()


def test_processors_are_told_apart_by_their_features():
    assert target_of("x86_64", {"avx512f": True, "avx2": True, "fma": True}) is AVX512
    assert target_of("x86_64", {"avx512f": False, "avx2": True, "fma": True}) is AVX2
    assert target_of("aarch64", {"neon": True}) is NEON
    assert target_of("x86_64", {"avx2": True, "fma": False}) is PORTABLE
    assert host_target() in (AVX512, AVX2, NEON, PORTABLE)


def test_the_portable_form_says_so():
    product = Product(3, 5, (Term(7, (7, 1), None),))
    assert "4 lanes" in plan(product, PORTABLE).reason
    assert "4 lanes" not in plan(product, AVX2).reason


def test_terms_of_other_groups_are_products_side_by_side():
    left, right = Term(5, (5, 1), None, 0, 3), Term(7, (7, 1), None, 3, 2)
    product = Product(2, 20, (left, right, left), 5)
    assert [product.span(term) for term in product.terms] == [(0, 3), (3, 2), (0, 3)]
    assert product.widest == 3 and product.flops == 2 * 2 * 20 * (5 * 3 + 7 * 2 + 5 * 3)
    chosen = plan(product)
    assert [panels(product, chosen, term).groups for term in range(3)] == [3, 2, 3]


@pytest.mark.parametrize("spans", [((0, 3), (2, 3)), ((0, 2), (3, 2)), ((1, 4),)])
def test_terms_that_leave_or_share_some_groups_are_refused(spans):
    terms = tuple(Term(5, (5, 1), None, *span) for span in spans)
    with pytest.raises(IrError, match="one and the same span"):
        Product(2, 20, terms, 5)
