"""The system's chromium, which the tests of the page drive; Playwright's own browsers are never fetched.

python -m tests.e2e.browser      find it, or install it: root on Debian and Ubuntu; one line says which
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
COMMAND = "python -m tests.e2e.browser"
PACKAGE = "chromium"
_INSTALL_SECONDS = 900

Run = Callable[[Sequence[str]], None]


class BrowserUnavailable(RuntimeError):  # noqa: N818
    """There is no browser and none could be installed; the message says why and what to do, in one line."""


def find() -> Path:
    """Return the browser's executable.

    Raises BrowserUnavailable where there is none.
    """
    for name in NAMES:
        found = shutil.which(name)
        if found:
            return Path(found)
    raise BrowserUnavailable(f"no chromium on PATH; install the package {PACKAGE!r}, or as root on Debian: {COMMAND}")


def ensure(run: Run | None = None, is_root: bool | None = None) -> tuple[Path, bool]:
    """Return the browser's executable, and whether it was installed now.

    run: what executes a command. Raises BrowserUnavailable where it is absent and cannot be installed from here.
    """
    try:
        return find(), False
    except BrowserUnavailable:
        if not (os.geteuid() == 0 if is_root is None else is_root) or shutil.which("apt-get") is None:
            raise
    execute = run or _run
    execute(["apt-get", "update", "-qq"])
    execute(["apt-get", "install", "-qq", "--yes", "--no-install-recommends", PACKAGE])
    return find(), True


def _run(command: Sequence[str]) -> None:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=_INSTALL_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BrowserUnavailable(f"{PACKAGE} could not be installed: {error}") from error
    if done.returncode:
        lines = [line.strip() for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        reason = next((line for line in lines if line.startswith("E:")), lines[-1] if lines else "no output")
        raise BrowserUnavailable(f"{PACKAGE} could not be installed by `{' '.join(command)}`: {reason}")


def main() -> int:
    """Return 0 when the browser is there; else say why and return 1 under CI=true, where its tests must run."""
    try:
        path, installed = ensure()
    except BrowserUnavailable as error:
        print(f"tests in a browser will be skipped: {error}", file=sys.stderr)
        return 1 if os.environ.get("CI") == "true" else 0
    print(f"browser {'installed' if installed else 'found'}: {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
