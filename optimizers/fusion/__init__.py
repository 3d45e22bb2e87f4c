"""Fusion: pointwise ops and reductions of a captured model become generated kernels, where that is faster."""
