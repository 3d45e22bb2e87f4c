"""The system's C compiler, for kernels printed as C: compiled into a folder, loaded, called on addresses."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from kernels.compiler.print_c import C_FLAGS

COMPILER = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no C compiler: neither cc, gcc nor clang is on the path")


def compile_c(text: str, name: str, folder: Path) -> Callable[..., None]:
    """Return the function `name` of a C file; it takes addresses."""
    assert COMPILER is not None
    source, library = folder / f"{name}.c", folder / f"{name}.so"
    source.write_text(text)
    command = [COMPILER, *C_FLAGS, "-Wall", "-Werror=implicit", "-o", str(library), str(source), "-lm"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    function = getattr(ctypes.CDLL(str(library)), name)
    function.restype = None

    def call(*addresses: int) -> None:
        function(*(ctypes.c_void_p(address) for address in addresses))

    return call
