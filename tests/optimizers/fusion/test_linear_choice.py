"""The library's product as a third way: timed on the kernel's own memory, kept where it is faster."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch

from kernels.compiler.compile import compile_kernel
from kernels.compiler.product_ir import ProductKernel, copy_region
from optimizers.fusion import linear_choice
from optimizers.fusion.candidates import RegionChoice
from optimizers.fusion.linear_choice import library_product
from optimizers.fusion.timing import Comparison

EVEN = Comparison(1e-5, 1e-5, 1.0, 1.0, 1.0, 7)
FASTER = dataclasses.replace(EVEN, second_seconds=5e-6, ratio=2.0)


def kernel(bias: tuple[int, int] | None) -> ProductKernel:
    return ProductKernel(3, 10, 4, (4, 1), (1, 4), copy_region(3, 10, (10, 1), bias), 0)


def memory(of: ProductKernel) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(4)
    return [torch.randn(buffer.elements, generator=generator) for buffer in of.buffers]


def answers(monkeypatch: pytest.MonkeyPatch, *comparisons: Comparison) -> list[Callable[[], Any]]:
    """Answer one comparison after the other; the library's ways, as they are timed."""
    waiting, asked = list(comparisons), []

    def compare(ours: Callable[[], Any], library: Callable[[], Any], **_: Any) -> Comparison:
        asked.append(library)
        return waiting.pop(0)

    monkeypatch.setattr(linear_choice, "compare", compare)
    return asked


def test_region_after_the_library_computes_what_the_kernel_does(monkeypatch: pytest.MonkeyPatch) -> None:
    product = kernel((0, 1))
    tensors = memory(product)
    addresses = [tensor.data_ptr() for tensor in tensors]
    left, right, out, bias = tensors
    compile_kernel(product).entry(*addresses)
    expected = left.view(3, 4) @ right.view(10, 4).t() + bias
    torch.testing.assert_close(out.view(3, 10), expected)
    out.zero_()
    asked = answers(monkeypatch, FASTER, FASTER)
    found = library_product(product, addresses, lambda: None)
    assert found.kept and found.seconds == 5e-6 and found.against == "fused" and len(asked) == 2
    asked[1]()
    torch.testing.assert_close(out.view(3, 10), expected)


def test_slower_product_needs_no_region(monkeypatch: pytest.MonkeyPatch) -> None:
    product = kernel((0, 1))
    tensors = memory(product)
    asked = answers(monkeypatch, EVEN)
    found = library_product(product, [tensor.data_ptr() for tensor in tensors], lambda: None)
    assert not found.kept and "before its region" in found.reason and len(asked) == 1


def test_kernel_is_not_kept_where_the_library_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    product = kernel(None)
    tensors = memory(product)
    answers(monkeypatch, FASTER)
    found = library_product(product, [tensor.data_ptr() for tensor in tensors], partial(int))
    assert found.kept and not found.reason
    assert RegionChoice("product", 1, ("mm",), FASTER).kept
    assert not RegionChoice("product", 1, ("mm",), FASTER, (found,)).kept
