"""The environment that compiles and simulates CUDA kernels without a GPU: about 1 GB, made once, shared by checkouts.

    python -m tests.cuda.toolchain      make it or find it; one line says which

It lies in the user's cache folder under a name that holds the hash of what it was made from. It is built beside its
place and renamed when complete, under a lock: a half-made one is never used, and two processes make it once.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

REQUIREMENTS = Path(__file__).parents[2] / "requirements-cuda-check.txt"
COMMAND = "python -m tests.cuda.toolchain"


class ToolchainUnavailable(RuntimeError):  # noqa: N818
    """The environment is not there or could not be made; the message says why, in one line."""


def cache_folder() -> Path:
    """Return the folder under the user's cache folder that holds our environments."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hotbench"


def place(requirements: Path = REQUIREMENTS) -> Path:
    """Return where the environment for these requirements and this Python belongs, made or not."""
    parts = (requirements.read_text(), sys.version, sys.base_prefix, sysconfig.get_platform(), platform.machine())
    return cache_folder() / f"cuda-toolchain-{hashlib.sha256('|'.join(parts).encode()).hexdigest()[:16]}"


def find() -> Path:
    """Return the environment's Python.

    Raises ToolchainUnavailable where the environment was not made.
    """
    python = place() / "bin" / "python"
    if not python.exists():
        raise ToolchainUnavailable(f"the CUDA compiler packages are not installed; run: {COMMAND}")
    return python


def make(install: Callable[[Path], None] | None = None) -> tuple[Path, bool]:
    """Return the environment's folder, and whether it was made now.

    install: what fills the new folder; by default a virtual environment with the pinned packages.
    Raises ToolchainUnavailable where the packages cannot be fetched; nothing is left behind then.
    """
    target = place()
    target.parent.mkdir(parents=True, exist_ok=True)
    with _locked(target.with_suffix(".lock")):
        if (target / "bin" / "python").exists():
            return target, False
        # What lies here now is of no use: a folder whose Python was removed, what a killed process left half-made.
        for useless in (target, *target.parent.glob(f".{target.name}-*")):
            shutil.rmtree(useless, ignore_errors=True)
        unfinished = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
        try:
            (install or _install)(unfinished)
            unfinished.rename(target)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    return target, True


def _install(folder: Path) -> None:
    _run([sys.executable, "-m", "venv", str(folder)])
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    _run([*pip, "--requirement", str(REQUIREMENTS)])


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        lines = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith("ERROR")] or lines or ["no output"]
        raise ToolchainUnavailable(f"the CUDA compiler packages could not be installed: {errors[-1].strip()}")


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def main() -> int:
    """Return 0 when the environment is there; else say why and return 1 under CI=true, where its tests must run."""
    try:
        folder, made = make()
    except (ToolchainUnavailable, OSError) as error:
        print(f"CUDA compile checks will be skipped: {error}", file=sys.stderr)
        return 1 if os.environ.get("CI") == "true" else 0
    print(f"CUDA toolchain {'made' if made else 'reused'}: {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
