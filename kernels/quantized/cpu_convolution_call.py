"""Convolutions with 8-bit weights at given addresses: where each value of a patch lies, and the compiled call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, lru_cache

import numpy as np
from numpy.typing import NDArray

from kernels.quantized.cpu_call import ProductCall
from kernels.quantized.cpu_compile import compiled_convolution, shared_pool
from kernels.quantized.cpu_convolution import PIXELS
from kernels.quantized.cpu_convolution_source import KINDS, convolution_source
from kernels.quantized.cpu_features import PORTABLE
from kernels.quantized.cpu_product import PARALLEL_WEIGHTS
from kernels.quantized.cpu_tile import DEPTH_MULTIPLE

__all__ = ["KINDS", "SLACK", "Geometry", "Window", "convolve", "geometry_of", "workspace_bytes"]
SLACK = PIXELS
"""Elements behind an image that may be read, where its results are fewer than a block's pixels."""
Two = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Window:
    """A convolution without groups of an image [inputs, *size], zeros around it counted in. Pairs: rows, columns."""

    inputs: int
    size: Two
    kernel: Two
    stride: Two
    dilation: Two

    @property
    def results(self) -> Two:
        """Return the rows and columns of the result; below 1 where the window is larger than the image."""
        high, wide = (
            (size - dilation * (taps - 1) - 1) // step + 1
            for size, taps, step, dilation in zip(self.size, self.kernel, self.stride, self.dilation, strict=True)
        )
        return high, wide


@dataclass(frozen=True, slots=True, eq=False)
class Geometry:
    """Where the values of patches lie in an image that is cut into planes, one for each place within a stride.

    planes: rows, columns of a plane: element [h, w] of the image is [h // stride, w // stride] of the plane
        (h % stride, w % stride). channel: elements of a channel's planes.
    pixels: neighbouring ones that are computed: the results, with those between the rows of the planes.
    numbers: for compiled code, at `address`: how many taps, their addresses, the address of the depths' offsets,
        `channel`, `pixels`, columns of a plane, columns and elements of a result, and the image's channels.
    """

    planes: Two
    channel: int
    pixels: int
    address: int
    numbers: NDArray[np.int64] = field(repr=False)
    _arrays: tuple[NDArray[np.int64], NDArray[np.int64]] = field(repr=False)


@lru_cache(128)
def geometry_of(window: Window) -> Geometry:
    """Return the geometry of a convolution."""
    (step_down, step_right), (high, wide) = window.stride, window.results
    rows, columns = (-(-size // step) for size, step in zip(window.size, window.stride, strict=True))
    taps = []
    for down in range(window.kernel[0]):
        for right in range(window.kernel[1]):
            y, x = down * window.dilation[0], right * window.dilation[1]
            plane = y % step_down * step_right + x % step_right
            taps.append((plane * rows + y // step_down) * columns + x // step_right)
    channel = step_down * step_right * rows * columns
    depth = window.inputs * len(taps)
    offsets = np.zeros(-(-depth // DEPTH_MULTIPLE) * DEPTH_MULTIPLE, np.int64)
    offsets[:depth] = (channel * np.arange(window.inputs)[:, None] + np.array(taps)).ravel()
    places = np.array(taps, np.int64)
    pixels = (high - 1) * columns + wide
    # results without gaps are one row
    row, width = (pixels, pixels) if columns == wide else (columns, wide)
    parts = (len(taps), places.ctypes.data, offsets.ctypes.data, channel, pixels, row, width, high * wide)
    numbers = np.array([*parts, window.inputs], np.int64)
    return Geometry((rows, columns), channel, pixels, numbers.ctypes.data, numbers, (places, offsets))


def workspace_bytes(weights: ProductCall, geometry: Geometry, batch: int, threads: int) -> int:
    """Return the bytes of scratch memory, at a multiple of 64, that a convolution needs."""
    panels = 2 if weights.kind == "codebook" else 1
    return _ranges_bytes(geometry, batch) + threads * panels * PIXELS * weights.depth


def convolve(
    weights: ProductCall, geometry: Geometry, image: int, batch: int, out: int, bias: int, workspace: int, threads: int
) -> None:
    """Compute the convolution of images at an address, planes as of the geometry; out: [batch, channels, results].

    Nothing is checked. weights: of a kind in KINDS, [channels, inputs * taps]. bias: 0 for none. Where `pixels` is
    below SLACK, so many elements behind the images must be readable.
    """
    found = _compiled(weights.kind, weights.kernel != PORTABLE)
    scratch = workspace + _ranges_bytes(geometry, batch)
    arguments = (weights.address, geometry.address, image, out, bias, workspace, scratch, batch)
    if threads > 1 and batch * geometry.pixels * weights.rows * weights.columns >= PARALLEL_WEIGHTS:
        pool = shared_pool()
        if not isinstance(pool, str):
            found.parallel(*arguments, int(pool.table.ctypes.data), found.share, threads)
            return
    found.entry(*arguments)


@dataclass(frozen=True, slots=True)
class _Compiled:
    entry: Callable[..., None]
    parallel: Callable[..., None]
    share: int


@cache
def _compiled(kind: str, native: bool) -> _Compiled:
    return _Compiled(*compiled_convolution(kind, convolution_source(kind, native)))


def _ranges_bytes(geometry: Geometry, batch: int) -> int:
    return batch * 3 * (-(-geometry.channel // 16) * 64)
