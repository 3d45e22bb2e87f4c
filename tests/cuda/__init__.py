"""CUDA kernels tested in four tiers: CPU twin, simulator, compiled code, device."""
