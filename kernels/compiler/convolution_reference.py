"""What a convolution computes, tap by tap in float64: what its kernel must match."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import as_strided

from kernels.compiler.convolution_ir import ConvolutionKernel


def evaluate_convolution(
    kernel: ConvolutionKernel, image: npt.NDArray[Any], weight: npt.NDArray[Any]
) -> npt.NDArray[np.float64]:
    """Return [batch, rows, columns, groups * results] of the flat memory of image and weight."""
    rows, columns, groups = kernel.rows, kernel.columns, kernel.groups
    shape = (kernel.batch, rows.extent, columns.extent, groups * kernel.inputs)
    pixels = as_strided(image, shape, [image.itemsize * s for s in (*kernel.image_strides, 1)])
    pixels = pixels.reshape(*shape[:3], groups, kernel.inputs).astype(np.float64)
    windows = (groups * kernel.results, kernel.inputs, rows.window, columns.window)
    weights = as_strided(weight, windows, [weight.itemsize * s for s in kernel.weight_strides])
    weights = weights.reshape(groups, kernel.results, *windows[1:]).astype(np.float64)
    result = np.zeros((kernel.batch, rows.results, columns.results, groups, kernel.results))
    for y in range(rows.results):
        for x in range(columns.results):
            for i in range(*rows.taps(y)):
                for j in range(*columns.taps(x)):
                    row = y * rows.step - rows.padding + i * rows.dilation
                    column = x * columns.step - columns.padding + j * columns.dilation
                    result[:, y, x] += np.einsum("bgc,grc->bgr", pixels[:, row, column], weights[..., i, j])
    return result.reshape(*result.shape[:3], -1)
