"""Layers that compute with compressed weights: each takes the place of a layer of torch, for inference on the CPU."""
