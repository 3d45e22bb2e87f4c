"""Kernel families and the kernel compiler: arrays and addresses in, arrays out; no torch."""
