"""What every CUDA kernel family stands on: text, memory, scalars, threads, launching; what a machine has of CUDA."""
