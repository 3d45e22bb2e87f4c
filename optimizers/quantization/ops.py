"""The ops of quantized layers, registered with torch when this is imported."""

from __future__ import annotations

from optimizers.quantization.op_convolution import convolution_op
from optimizers.quantization.op_embedding import embedding_op
from optimizers.quantization.op_library import NAMESPACE, call_of
from optimizers.quantization.op_linear import linear_op
from optimizers.quantization.op_recurrent import recurrent_op

__all__ = ["NAMESPACE", "call_of", "convolution_op", "embedding_op", "linear_op", "recurrent_op"]
