"""What fusion can do with each ATen op of a captured run, by its name: a kernel's, a view, the library's, and why."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

POINTWISE = frozenset(
    """add sub rsub mul div true_divide neg abs exp expm1 log log1p log2 sqrt rsqrt reciprocal sigmoid tanh erf sin cos
    floor ceil round trunc sign relu gelu silu leaky_relu elu hardtanh relu6 clamp clamp_min clamp_max maximum minimum
    pow square remainder atan2 eq ne lt le gt ge logical_and logical_or logical_not logical_xor bitwise_and bitwise_or
    bitwise_not bitwise_xor __and__ __or__ isnan isinf where masked_fill addcmul clone to _to_copy contiguous type_as
    zeros ones full zeros_like ones_like full_like new_zeros new_ones new_full scalar_tensor arange cat stack concat
    copy lift_fresh_copy float sigmoid_backward tanh_backward gelu_backward silu_backward threshold_backward
    leaky_relu_backward elu_backward hardtanh_backward mse_loss_backward native_dropout_backward select_backward
    slice_backward fill zero""".split()
)
REDUCTIONS = frozenset(
    """sum mean amax amin any all var var_mean std softmax log_softmax _softmax _log_softmax layer_norm
    native_layer_norm batch_norm native_batch_norm _native_batch_norm_legit_no_training norm linalg_vector_norm rms_norm
    _softmax_backward_data _log_softmax_backward_data native_layer_norm_backward mse_loss avg_pool2d max_pool2d
    max_pool2d_with_indices""".split()
)
VIEWS = frozenset(
    """view reshape permute transpose t expand expand_as slice select chunk split unbind squeeze unsqueeze flatten
    narrow detach alias as_strided unflatten movedim swapaxes numpy_T split_with_sizes tensor_split view_as resolve_conj
    dropout result_type _unsafe_view""".split()
)
PRODUCTS = frozenset("linear matmul mm addmm bmm baddbmm einsum mv addmv dot quantized_linear".split())
CONVOLUTIONS = frozenset("conv1d conv2d conv3d convolution _convolution conv_transpose2d convolution_backward".split())
ATTENTION = frozenset(
    """scaled_dot_product_attention _scaled_dot_product_flash_attention_for_cpu
    _scaled_dot_product_flash_attention_for_cpu_backward""".split()
)
RANDOM = frozenset(
    """bernoulli native_dropout rand rand_like randn randn_like randint randperm normal uniform multinomial
    exponential random""".split()
)
DATA_DEPENDENT = frozenset(
    """nonzero masked_select unique _unique2 unique_consecutive unique_dim item _local_scalar_dense is_nonzero
    repeat_interleave bincount equal allclose""".split()
)
LOOKUPS = frozenset(("embedding", "quantized_embedding"))
"""Of their first operand, a table, they read no more than they return."""
INDEXING = frozenset(("index", "gather"))
KERNELS = POINTWISE | REDUCTIONS | LOOKUPS
DTYPES = frozenset(("float32", "float64", "int32", "int64", "bool"))
"""Of tensors that kernels compute with."""


@cache
def base(name: str) -> str:
    """Return an op's name without namespace and without the mark of an in-place op: "aten::add_" -> "add"."""
    short = name.rpartition("::")[2]
    return short[:-1] if short.endswith("_") and not short.endswith("__") else short


def is_fusable(name: str) -> bool:
    """Return whether a generated kernel can compute the op."""
    return base(name) in KERNELS


def is_view_of(name: str) -> bool:
    """Return whether the op costs nothing in a fused program: a view, or nothing at all in inference."""
    return base(name) in VIEWS


def unsupported_dtypes(dtypes: Iterable[str]) -> list[str]:
    """Return, of a stretch's dtypes, those that no kernel computes with, sorted."""
    return sorted({dtype.removeprefix("torch.") for dtype in dtypes} - DTYPES)


@cache
def why_library(name: str, phase: str = "forward") -> str:
    """Return in one line why an op is not taken into a generated kernel; "" for one that is."""
    short = base(name)
    if phase == "optimizer":
        return "the optimizer's step runs outside of the compiled model"
    if short in KERNELS or short in VIEWS:
        return ""
    if short in DATA_DEPENDENT:
        return "its result depends on the values of a tensor, in shape or in what follows: a dynamic shape"
    if short in RANDOM:
        return "random numbers are drawn by the library, in eager's order"
    if short in PRODUCTS:
        return "the library is faster, unless a generated product is measured faster when it is applied"
    if short in CONVOLUTIONS:
        return "the library is faster, unless a generated kernel is measured faster when it is applied"
    if short in INDEXING:
        return "the library's, unless its positions are aranges, or rows of one column, when it is applied"
    if short in ATTENTION:
        return "the library's own kernel, unless the generated one is measured faster when it is applied"
    return "an unsupported op: no generated kernel computes it"
