"""Pooling over small unpadded windows is pointwise: one strided view of its input for each place of a window."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import torch

from kernels.compiler.convolution_ir import Axis
from optimizers.fusion.convolution import padded_average
from optimizers.fusion.elementwise import FLOATING, _short
from optimizers.fusion.lowering import Lowering, View, handles

_LARGEST_WINDOW = 9


@handles("max_pool2d_with_indices", "avg_pool2d")
def _pool(b: Lowering, node: torch.fx.Node, args: list[Any], kwargs: dict[str, Any]) -> Any:
    maximum = _short(node) == "max_pool2d_with_indices"
    out = node.meta["val"][0] if maximum else node.meta["val"]
    x, window = args[0], _pair(args[1])
    step = _pair(args[2]) if len(args) > 2 and args[2] else window
    if not maximum and (averaged := _padded_average(b, node, args, kwargs)) is not None:
        return averaged
    plain = kwargs == {} and _is_plain(args[3:], maximum)
    if not plain or math.prod(window) > _LARGEST_WINDOW or x.dtype not in FLOATING:
        return NotImplemented
    if maximum and any(user.args[1] != 0 for user in node.users):
        return NotImplemented  # the positions of the maxima are used
    places = [_place(x, place, step, out.shape[-2:]) for place in itertools.product(*map(range, window))]
    total = places[0]
    for position, place in enumerate(places[1:], start=2):
        last = {"like": out} if maximum and position == len(places) else {}
        total = b.apply("maximum" if maximum else "add", total, place, **last)
    if len(places) == 1:
        total = b.apply("identity", total, like=out)
    return (total, None) if maximum else b.apply("div", total, float(math.prod(window)), like=out)


def _padded_average(b: Lowering, node: torch.fx.Node, args: list[Any], kwargs: dict[str, Any]) -> View | None:
    """Return the average over padded windows, all of which have the same divisor; None where they have not."""
    defaults: list[Any] = [[0], False, True, None]
    padding, ceil, counts_padding, divisor = [*args[3:], *defaults[len(args[3:]) :]]
    if kwargs or not any(padding) or ceil or not counts_padding:
        return None
    window, x, extents = _pair(args[1]), args[0], node.meta["val"].shape[-2:]
    step = _pair(args[2]) if args[2] else window
    axes = [Axis(x.shape[k - 2], window[k], step[k], _pair(padding)[k], 1, int(extents[k])) for k in range(2)]
    return padded_average(b, node, x, axes, float(divisor or math.prod(window)))


def _pair(value: Sequence[int]) -> tuple[int, int]:
    return (int(value[0]), int(value[-1]))


def _is_plain(rest: Sequence[Any], maximum: bool) -> bool:
    """Return whether the arguments after the stride ask for no padding, no dilation, no partial windows."""
    defaults: list[Any] = [[0], [1], False] if maximum else [[0], False, True, None]
    given: list[Any] = [*rest, *defaults[len(rest) :]]
    if maximum:
        padding, dilation, ceil = given
        return not any(padding) and all(extent == 1 for extent in dilation) and not ceil
    padding, ceil, _, divisor = given
    return not any(padding) and not ceil and divisor is None


def _place(x: View, place: tuple[int, ...], step: tuple[int, int], extents: Sequence[int]) -> View:
    """Return the elements of `x` that are at `place` in their windows."""
    rows, columns = (
        slice(start, start + (extent - 1) * stride + 1, stride)
        for start, stride, extent in zip(place, step, extents, strict=True)
    )
    return View(x.source, x.meta[..., rows, columns])
