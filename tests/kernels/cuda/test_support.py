from __future__ import annotations

import subprocess
import sys

import pytest

from kernels.cuda import support as cuda_support
from kernels.cuda.support import CudaDescription, CudaUnavailable, describe


def test_the_kernels_import_without_numba_cuda_and_without_torch() -> None:
    program = (
        "import sys; sys.modules['numba_cuda'] = None\n"
        "import kernels.pointwise, kernels.cuda.kernel, kernels.cuda.support\n"
        "assert 'torch' not in sys.modules and 'numba.cuda' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_an_absent_package_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_support, "numba_cuda_version", lambda: None)
    cuda_support.cuda_module.cache_clear()
    with pytest.raises(CudaUnavailable, match=r"numba-cuda is not installed; run: pip install -r requirements-cuda"):
        cuda_support.cuda_module()


def test_the_description_agrees_with_itself() -> None:
    description = describe()
    assert isinstance(description, CudaDescription)
    assert description.ready == description.message.startswith("ready")
    assert "\n" not in description.message


@pytest.mark.parametrize(
    ("package", "driver", "devices", "toolkit", "words"),
    [
        (None, None, 0, None, "no CUDA driver answers"),
        ("0.30.4", "13.0", 0, "/cuda", "sees no device"),
        (None, "13.0", 1, None, "numba-cuda is not installed"),
        ("0.30.4", "13.0", 1, None, "no CUDA toolkit"),
        ("0.30.4", "13.0", 2, "/cuda", "ready: 2 device"),
    ],
)
def test_the_message_says_what_to_do_next(
    monkeypatch: pytest.MonkeyPatch,
    package: str | None,
    driver: str | None,
    devices: int,
    toolkit: str | None,
    words: str,
) -> None:
    monkeypatch.setattr(cuda_support, "numba_cuda_version", lambda: package)
    monkeypatch.setattr(cuda_support, "_driver", lambda: (driver, devices))
    monkeypatch.setattr(cuda_support, "_toolkit", lambda: toolkit)
    description = describe()
    assert words in description.message
    assert description.ready == (words.startswith("ready"))
