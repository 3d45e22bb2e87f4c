"""What follows the sums of a quantized product, as source text: dequantise, bias, activation, residual.

y = activation(float(sum - zero * weight sum) * (activation scale * weight scale) + bias) + residual, in float32 with
one rounding an operation. The difference is taken in integers: it is exact while it fits 32 bits.
"""

from __future__ import annotations

ACTIVATIONS = ("none", "relu", "gelu", "gelu_tanh", "silu")
"""By number: what a compiled product is told. gelu: by the error function."""

FUNCTIONS = """
@inline
def relu(y):
    return select(y < float32(0.0), float32(0.0), y)


@inline
def gelu(y):
    return float32(0.5) * y * (float32(1.0) + erf_float32(y * float32(0.7071067811865476)))


@inline
def gelu_tanh(y):
    inner = float32(0.7978845608028654) * (y + float32(0.044715) * y * y * y)
    return float32(0.5) * y * (float32(1.0) + tanh_float32(inner))


@inline
def silu(y):
    return y * sigmoid_float32(y)
"""

_FINISH = '''
@inline
def finish(sums, scales, zeros, weights, column, width, bias, activation, residual, residual_stride, out, out_stride,
           first, count):
    """Write the outputs of a tile: rows `first` on, columns `column` on."""
    row_scales, row_sums = load_int64(weights, 1, 0) + 4 * column, load_int64(weights, 2, 0) + 4 * column
    if bias == 0:
        bias = load_int64(weights, 3, 0)
    bias += 4 * column
    values = stack(256)
    for row in range(count):
{zero}        taken, place = sums + 256 * row, out + 4 * ((first + row) * out_stride + column)
        if activation == 0 and residual == 0:
            for k in range(width):
                {product}
                store_float32(place, k, y + load_float32(bias, k, 0), 1)
            continue
        for k in range(width):
            {product}
            store_float32(values, k, y + load_float32(bias, k, 0), 2)
{activations}
        if residual == 0:
            for k in range(width):
                store_float32(place, k, load_float32(values, k, 2), 1)
        else:
            added = residual + 4 * ((first + row) * residual_stride + column)
            for k in range(width):
                store_float32(place, k, load_float32(values, k, 2) + load_float32(added, k, 3), 1)
'''
_ACTIVATION = """        if activation == {number}:
            for k in range({columns}):
                store_float32(values, k, {name}(load_float32(values, k, 2)), 2)
"""
_SCALE = "        scale = load_float32(scales, first + row, 0)\n"
_INTEGER_ZERO = _SCALE + "        zero = load_int32(zeros, first + row, 0)\n"
_INTEGER = (
    "total = subtract_int32(load_int32(taken, k, 4), multiply_int32(zero, load_int32(row_sums, k, 0))); "
    "y = float32(total) * (scale * load_float32(row_scales, k, 0))"
)


_FLOAT_ZERO = _SCALE + "        zero = float32(load_int32(zeros, first + row, 0))\n"
_FLOAT = (
    "y = (load_float32(taken, k, 4) - zero * load_float32(row_sums, k, 0)) * (scale * load_float32(row_scales, k, 0))"
)
SUMS = {
    "integer": (_INTEGER_ZERO, _INTEGER),
    "float": (_FLOAT_ZERO, _FLOAT),
    "scaled": ("", "y = load_float32(taken, k, 4) * load_float32(row_scales, k, 0)"),
    "final": ("", "y = load_float32(taken, k, 4)"),
}
"""By what the sums are: int32, float32 with the zero point in them, float32 to be scaled, or the product itself."""


def finish_text(columns: int, sums: str) -> str:
    """Return the source of `finish` and of the activations; a tile has so many columns.

    sums: one of SUMS.
    """
    activations = "".join(
        _ACTIVATION.format(number=number, name=name, columns=columns)
        for number, name in enumerate(ACTIVATIONS)
        if number
    )
    zero, product = SUMS[sums]
    finish = _FINISH.format(zero=zero, product=product, activations=activations.rstrip("\n"))
    return FUNCTIONS + "\n" + finish
