"""On a disk that is really full a fit stops in words, and a step goes on in memory, with the same numbers."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BYTES = "24m"
SECONDS = 300.0


def outcome(*command: str) -> dict[str, Any]:
    """Return what the process printed; its group is gone afterwards."""
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    try:
        printed, said = process.communicate(timeout=SECONDS)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    assert process.returncode == 0, said
    return dict(json.loads(printed.splitlines()[-1]))


def child(folder: Path, kind: str) -> list[str]:
    return [sys.executable, "-m", "tests.optimizers.swap.full_disk", str(folder), kind]


def why_no_mount(folder: Path) -> str:
    """Return why no file system of a few MB can be mounted here; "" where one can."""
    if shutil.which("unshare") is None or shutil.which("mount") is None:
        return "unshare or mount is not there"
    tried = subprocess.run(
        ["unshare", "--mount", "mount", "-t", "tmpfs", "-o", f"size={BYTES}", "none", str(folder)],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    return tried.stderr.strip() or "" if tried.returncode else ""


def test_a_full_file_system_stops_a_fit_in_words_and_never_gives_wrong_numbers(tmp_path: Path) -> None:
    reason = why_no_mount(tmp_path)
    if reason:
        pytest.skip(f"no file system can be mounted here: {reason}")
    # The mount is the process's own: it goes with it, however it ends.
    mount = f'mount -t tmpfs -o size={BYTES} none "$1" && shift && exec "$@"'
    found = outcome("unshare", "--mount", "sh", "-c", mount, "sh", str(tmp_path), *child(tmp_path, "filler"))
    assert "No space left on device" in found["fit"]
    assert "\n" not in found["fit"]
    assert "cannot hold a copy of the model's state (No space left on device); free space or" in found["state"]
    assert found["fit leaves the model"]
    assert "cannot hold the" in found["no room at the start"]
    assert (found["reserved: same weights"], found["reserved: trouble"]) == (True, "")
    assert found["promised: same weights"]
    assert "the swap file cannot be written ([Errno 28] No space left on device)" in found["promised: trouble"]
    assert found["left behind"] == []


def test_a_limit_on_files_stops_a_fit_in_words_and_never_gives_wrong_numbers(tmp_path: Path) -> None:
    found = outcome(*child(tmp_path, "limit"))
    assert "File too large" in found["fit"]
    assert "cannot hold a copy of the model's state (File too large); free space or" in found["state"]
    assert found["fit leaves the model"]
    assert "cannot hold the" in found["no room at the start"]
    assert found["promised: same weights"]
    assert "the swap file cannot be written ([Errno 27] File too large)" in found["promised: trouble"]
    assert found["left behind"] == []
