"""The second process of beside.py: reads jobs from its input, compiles each into the cache, asks for the next."""

from __future__ import annotations

import pickle
import sys

from kernels.compiler.compile import compile_kernel
from kernels.compiler.ir import IrError


def main() -> None:
    """Compile until the input ends."""
    while True:
        print("next", flush=True)
        try:
            kernel, cache, threads = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        try:
            compile_kernel(kernel, cache, threads)
        except (IrError, OSError):
            continue  # the first process meets the same, and says so


if __name__ == "__main__":
    main()
