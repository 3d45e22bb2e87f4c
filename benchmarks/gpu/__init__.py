"""The parts of `python -m benchmarks.gpu_check`: what is checked and timed on a GPU, each part in its own process."""
