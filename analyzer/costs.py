"""FLOPs and bytes of one op, from the shapes of its tensors.

A multiply-add counts as 2 FLOPs. An elementwise op counts 1 per element of its result, whatever the function: a
transcendental (exp, tanh, erf) takes a device 10 to 40 instructions, but it is one operation of the program, as in the
frameworks' own counters. Ops without a rule count 0.0: unknown, not free.

| ops | FLOPs |
|---|---|
| mm, addmm, linear | 2 m k n; the bias of addmm is not counted, as in torch.utils.flop_counter |
| bmm, baddbmm | 2 b m k n |
| mv, addmv, dot, vdot | 2 elements of the matrix (the vector) |
| convolution | 2 N C_out positions (C_in / groups) kernel; transposed: positions of the input |
| convolution backward | that of the forward for each of the two gradients that was computed |
| scaled dot-product attention | 2 b h q (d + e) k; its backward 5/2 of that (the scores are computed again) |
| elementwise | 1 per element of the result; addcmul, addcdiv, lerp 3; their kin per formula below |
| reduction | 1 per element of the input; softmax 5 (backward 4), layer and batch norm 8 (backward 11) |
| max pooling | 1 per element of the result and of the window |
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from math import prod

from analyzer.graph import Tensor

Shapes = Sequence[tuple[int, ...]]
FlopRule = Callable[[Shapes, Shapes, dict[str, object]], float]

VIEWS = frozenset(
    """alias as_strided chunk detach diagonal expand expand_as flatten lift_fresh movedim narrow permute real
    reshape resolve_conj resolve_neg select slice split split_with_sizes squeeze swapaxes swapdims t transpose
    unbind unflatten unfold unsafe_chunk unsafe_split unsqueeze view view_as view_as_real view_as_complex _reshape_alias
    _unsafe_view""".split()
)
ALLOCATORS = frozenset("empty empty_like empty_strided new_empty new_empty_strided resize_ resize_as_ set_".split())
FILLS = frozenset(
    """arange bernoulli_ eye exponential_ fill_ full full_like linspace new_full new_ones new_zeros normal_ ones
    ones_like rand randn random_ uniform_ zero_ zeros zeros_like""".split()
)
GATHERS = frozenset({"embedding", "gather", "index", "index_select", "take"})
POINTWISE = frozenset(
    """abs acos acosh add addcdiv addcmul angle asin asinh atan atan2 atanh bitwise_and bitwise_not bitwise_or
    bitwise_xor ceil celu clamp clamp_max clamp_min copysign cos cosh div elu elu_backward eq erf erfc erfinv exp exp2
    expm1 floor floor_divide fmod frac ge gelu gelu_backward glu gt hardsigmoid hardswish hardtanh heaviside hypot
    isfinite isinf isnan le leaky_relu leaky_relu_backward lerp lgamma log log10 log1p log2 log_sigmoid_forward
    log_sigmoid_backward logaddexp logical_and logical_not logical_or logical_xor logit lt masked_fill maximum minimum
    mish mish_backward mul ne neg pow prelu reciprocal relu remainder round rsqrt rsub sgn sigmoid sigmoid_backward sign
    silu silu_backward sin sinh softplus softplus_backward sqrt square sub tan tanh tanh_backward threshold
    threshold_backward trunc where xlogy""".split()
)
REDUCTIONS = frozenset(
    """all amax amin any argmax argmin count_nonzero cumprod cumsum linalg_vector_norm logsumexp max mean median min
    nansum norm prod std std_mean sum var var_mean aminmax""".split()
)
PER_ELEMENT = {
    "addcmul": 3.0,
    "addcdiv": 3.0,
    "lerp": 3.0,
}
"""FLOPs per element of the result for elementwise ops that take more than one."""
PER_INPUT_ELEMENT = {
    "_softmax": 5.0,
    "_log_softmax": 5.0,
    "_softmax_backward_data": 4.0,
    "_log_softmax_backward_data": 4.0,
    "native_layer_norm": 8.0,
    "native_layer_norm_backward": 11.0,
    "native_group_norm": 8.0,
    "native_group_norm_backward": 11.0,
    "native_batch_norm": 8.0,
    "native_batch_norm_backward": 11.0,
    "cudnn_batch_norm": 8.0,
    "cudnn_batch_norm_backward": 11.0,
    "avg_pool2d": 1.0,
    "_adaptive_avg_pool2d": 1.0,
    "embedding_dense_backward": 1.0,
    "nll_loss_forward": 1.0,
    "mse_loss": 3.0,
}
"""FLOPs per element of the first input."""


def base_name(name: str) -> str:
    """Return an op's name without its namespace, "aten::add_" -> "add_"."""
    return name.rpartition("::")[2]


def is_view(name: str) -> bool:
    """Return whether an op only makes another view of memory, in place or not, and moves nothing."""
    base = base_name(name)
    return base in VIEWS or base.removesuffix("_") in VIEWS


def is_allocator(name: str) -> bool:
    """Return whether an op only takes or resizes memory, and moves nothing."""
    return base_name(name) in ALLOCATORS


def flops(name: str, inputs: Shapes, outputs: Shapes, arguments: str = "[]") -> float:
    """Return the floating-point operations of one op; 0.0 where it has none or no rule is known.

    inputs, outputs: shapes in the order of the op's tensors. arguments: JSON as in analyzer.graph.Op.
    """
    base = base_name(name)
    rule = RULES.get(base)
    if rule is not None:
        return rule(inputs, outputs, dict(json.loads(arguments)))
    plain = base.removesuffix("_") if not base.startswith("_") else base
    if plain in POINTWISE:
        return PER_ELEMENT.get(plain, 1.0) * _largest(outputs or inputs[:1])
    if plain in REDUCTIONS:
        return float(prod(inputs[0])) if inputs else 0.0
    if plain in PER_INPUT_ELEMENT:
        return PER_INPUT_ELEMENT[plain] * prod(inputs[0]) if inputs else 0.0
    return 0.0


def bytes_moved(name: str, inputs: Sequence[Tensor], outputs: Sequence[Tensor], written: Sequence[Tensor]) -> int:
    """Return the bytes an op reads and writes if each tensor moves once.

    Views and allocations move nothing; a fill moves only what it writes, a copy does not read what it overwrites, and
    a gather (embedding, index_select) reads of its table what it hands out.
    written: the tensors that it updates in place; an operand named twice is read once.
    """
    base = base_name(name)
    if is_view(name) or is_allocator(name):
        return 0
    out = {tensor.index: tensor for tensor in outputs}
    # A result that stands on an input's memory and is not written there is a view of it (aten::to without a change).
    storages = {tensor.storage for tensor in inputs}
    changed = {tensor.storage for tensor in written}
    moved = sum(_extent(t) for t in out.values() if t.storage not in storages or t.storage in changed)
    if not moved and outputs:
        return 0
    if base in FILLS:
        return moved or sum(_extent(tensor) for tensor in written)
    overwritten = {tensor.index for tensor in written} if base == "copy_" else set()
    read = {tensor.index: _extent(tensor) for tensor in inputs if tensor.index not in overwritten}
    if base in GATHERS and inputs:
        read[inputs[0].index] = min(read[inputs[0].index], moved)
    return moved + sum(read.values())


def _extent(tensor: Tensor) -> int:
    """Return the bytes behind a tensor: an axis that is broadcast (stride 0) is one element in memory."""
    item = tensor.nbytes // max(prod(tensor.shape), 1)
    return item * prod(size for size, stride in zip(tensor.shape, tensor.strides, strict=True) if stride or size == 0)


def _largest(shapes: Shapes) -> float:
    return float(max((prod(shape) for shape in shapes), default=0))


def _matmul(left: tuple[int, ...], right: tuple[int, ...]) -> float:
    return 2.0 * prod(left) * right[-1]


def _mm(inputs: Shapes, outputs: Shapes, arguments: dict[str, object]) -> float:
    return _matmul(inputs[0], inputs[1]) if len(inputs) >= 2 else 0.0


def _addmm(inputs: Shapes, outputs: Shapes, arguments: dict[str, object]) -> float:
    return _matmul(inputs[1], inputs[2]) if len(inputs) >= 3 else 0.0


def _linear(inputs: Shapes, outputs: Shapes, arguments: dict[str, object]) -> float:
    return 2.0 * prod(inputs[0]) * prod(inputs[1][:-1]) if len(inputs) >= 2 else 0.0


def _vector(inputs: Shapes, outputs: Shapes, arguments: dict[str, object]) -> float:
    return 2.0 * prod(inputs[0]) if inputs else 0.0


def _addmv(inputs: Shapes, outputs: Shapes, arguments: dict[str, object]) -> float:
    return 2.0 * prod(inputs[1]) if len(inputs) >= 2 else 0.0


def _convolution(inputs: Shapes, outputs: Shapes, arguments: dict[str, object]) -> float:
    """Input [N, C_in, positions...], weight [C_out, C_in / groups, kernel...] -> [N, C_out, positions...]."""
    if len(inputs) < 2 or not outputs:
        return 0.0
    return convolution_flops(inputs[0], inputs[1], outputs[0], bool(arguments.get("transposed", False)))


def convolution_flops(
    data: tuple[int, ...], weight: tuple[int, ...], result: tuple[int, ...], transposed: bool
) -> float:
    """Return the FLOPs of a convolution; each of the weight's kernels is applied at each position once.

    Transposed, the positions are those of the input: [N, C_in, positions...] with weight [C_in, C_out / groups, ...].
    """
    positions = prod((data if transposed else result)[2:])
    return 2.0 * data[0] * positions * prod(weight)


def _max_pool(inputs: Shapes, outputs: Shapes, arguments: dict[str, object]) -> float:
    """One comparison for each element under the window."""
    window = arguments.get("kernel_size")
    if not outputs or not isinstance(window, list) or not window:
        return 0.0
    # One size stands for all axes.
    return float(prod(outputs[0]) * prod(window * 2 if len(window) == 1 else window))


def _convolution_backward(inputs: Shapes, outputs: Shapes, arguments: dict[str, object]) -> float:
    """(gradient, input, weight) -> (gradient of input, of weight, of bias), each where `output_mask` asks for it."""
    if len(inputs) < 3:
        return 0.0
    gradient, data, weight = inputs[0], inputs[1], inputs[2]
    once = convolution_flops(data, weight, gradient, bool(arguments.get("transposed", False)))
    mask = arguments.get("output_mask", [True, True, False])
    return once * sum(bool(flag) for flag in list(mask)[:2]) if isinstance(mask, list) else once * 2


def _attention(inputs: Shapes, outputs: Shapes, arguments: dict[str, object]) -> float:
    """Query [b, h, q, d], key [b, h, k, d], value [b, h, k, e]."""
    return _attention_flops(*inputs[:3]) if len(inputs) >= 3 else 0.0


def _attention_backward(inputs: Shapes, outputs: Shapes, arguments: dict[str, object]) -> float:
    """(gradient, query, key, value, ...): five products where the forward has two."""
    if len(inputs) < 4:
        return 0.0
    query, key, value = inputs[1], inputs[2], inputs[3]
    rows, columns = prod(query[:-1]), key[-2]
    return 2.0 * rows * columns * (3 * query[-1] + 2 * value[-1])


def _attention_flops(query: tuple[int, ...], key: tuple[int, ...], value: tuple[int, ...]) -> float:
    return 2.0 * prod(query[:-1]) * key[-2] * (query[-1] + value[-1])


_FORWARD_ATTENTION = (
    "_scaled_dot_product_flash_attention",
    "_scaled_dot_product_flash_attention_for_cpu",
    "_scaled_dot_product_efficient_attention",
    "_scaled_dot_product_cudnn_attention",
    "_scaled_dot_product_attention_math",
    "scaled_dot_product_attention",
)
RULES: dict[str, FlopRule] = {
    "mm": _mm,
    "bmm": _mm,
    "addmm": _addmm,
    "addmm_": _addmm,
    "baddbmm": _addmm,
    "baddbmm_": _addmm,
    "addbmm": _addmm,
    "linear": _linear,
    "mkldnn_linear": _linear,
    "max_pool2d_with_indices": _max_pool,
    "mv": _vector,
    "dot": _vector,
    "vdot": _vector,
    "addmv": _addmv,
    "addmv_": _addmv,
    **dict.fromkeys(("convolution", "_convolution", "mkldnn_convolution", "cudnn_convolution", "_slow_conv2d_forward",
                     "thnn_conv2d", "slow_conv3d_forward", "_conv_depthwise2d", "conv_depthwise3d",
                     "miopen_convolution", "cudnn_convolution_transpose"), _convolution),
    **dict.fromkeys(("convolution_backward", "mkldnn_convolution_backward", "_slow_conv2d_backward"),
                    _convolution_backward),
    **dict.fromkeys(_FORWARD_ATTENTION, _attention),
    **dict.fromkeys([f"{name}_backward" for name in _FORWARD_ATTENTION], _attention_backward),
}  # fmt: skip
