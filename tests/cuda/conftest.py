"""One simulating and one compiling process a test run; where they cannot be had, the tests say so and are skipped."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.cuda.toolchain import ToolchainUnavailable, find
from tests.cuda.toolchain_process import ToolchainProcess, toolchain_process


def require_toolchain() -> None:
    """Return nothing; skip the test where the toolchain is absent, or fail it where CI=true."""
    try:
        find()
    except ToolchainUnavailable as error:
        if os.environ.get("CI") == "true":
            pytest.fail(str(error))
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def simulating() -> Iterator[ToolchainProcess]:
    """Return a process that simulates kernels."""
    require_toolchain()
    with toolchain_process(simulate=True) as process:
        yield process


@pytest.fixture(scope="session")
def compiling() -> Iterator[ToolchainProcess]:
    """Return a process that compiles kernels for sm_80 and sm_90."""
    require_toolchain()
    with toolchain_process(simulate=False) as process:
        yield process
