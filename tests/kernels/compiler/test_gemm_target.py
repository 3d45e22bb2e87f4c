"""Products on other processors' instructions, in processes of their own; nothing is read or written past an end."""

import os
import subprocess
import sys

import pytest

from kernels.compiler.gemm_target import host_target

PORTABLE = {"NUMBA_CPU_NAME": "x86-64", "NUMBA_CPU_FEATURES": "+sse2"}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is protected with Linux's mprotect")
@pytest.mark.parametrize("variables", [{}, PORTABLE], ids=["this-processor", "portable"])
def test_nothing_is_touched_past_an_end_and_no_library_is_called_for_a_multiply_add(variables):
    if variables and host_target().name not in ("avx512", "avx2", "portable"):
        pytest.skip("this processor is no x86-64")
    ended = subprocess.run(
        [sys.executable, "-m", "tests.kernels.compiler.gemm_at_the_edge"],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    name, correct, count, calls_fmaf = ended.stdout.split()
    assert name == ("portable" if variables else host_target().name)
    assert correct == count == "6" and calls_fmaf == "False"
