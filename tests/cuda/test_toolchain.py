"""The toolchain environment's own life: made once, never half-made, its absence visible."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.cuda import toolchain

ROOT = Path(__file__).parents[2]


def make_python(folder: Path) -> None:
    (folder / "bin").mkdir()
    (folder / "bin" / "python").touch()


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def test_it_is_made_once_and_then_reused() -> None:
    folder, made = toolchain.make(make_python)
    assert made and toolchain.find() == folder / "bin" / "python"
    assert toolchain.make(make_python) == (folder, False)


def test_a_failed_attempt_leaves_nothing_that_could_be_used(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        make_python(folder)
        raise toolchain.ToolchainUnavailable("no network")

    with pytest.raises(toolchain.ToolchainUnavailable, match="no network"):
        toolchain.make(fail)
    assert [path.suffix for path in (tmp_path / "hotbench").iterdir()] == [".lock"]
    with pytest.raises(toolchain.ToolchainUnavailable, match="not installed"):
        toolchain.find()


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    place = toolchain.place()
    left = place.parent / f".{place.name}-killed"
    left.mkdir(parents=True)
    toolchain.make(make_python)
    assert not left.exists()


def test_two_at_once_make_it_one_time() -> None:
    calls: list[Path] = []

    def install(folder: Path) -> None:
        calls.append(folder)
        make_python(folder)

    threads = [threading.Thread(target=toolchain.make, args=(install,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1


def test_other_requirements_have_another_place(tmp_path: Path) -> None:
    other = tmp_path / "requirements.txt"
    other.write_text("numba==0.68.1\n")
    assert toolchain.place(other) != toolchain.place()


def run_a_test_without_toolchain(tmp_path: Path, ci: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path), "CI": ci}
    test = "tests/cuda/test_simulator_extension.py::test_local_memory_starts_out_as_nan"
    command = [sys.executable, "-m", "pytest", "-rs", "-p", "no:cacheprovider", test]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


def test_without_toolchain_a_test_is_skipped_with_the_reason(tmp_path: Path) -> None:
    done = run_a_test_without_toolchain(tmp_path, ci="")
    assert done.returncode == 0
    assert "1 skipped" in done.stdout
    assert toolchain.COMMAND in done.stdout


def test_without_toolchain_a_test_fails_where_ci_is_true(tmp_path: Path) -> None:
    done = run_a_test_without_toolchain(tmp_path, ci="true")
    assert done.returncode == 1
    assert toolchain.COMMAND in done.stdout


def test_packages_that_cannot_be_fetched_are_said_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def install(folder: Path) -> None:
        program = (
            "import sys; print('WARNING: retrying\\nERROR: no matching distribution', file=sys.stderr); sys.exit(1)"
        )
        toolchain._run([sys.executable, "-c", program])

    monkeypatch.setattr(toolchain, "_install", install)
    monkeypatch.setenv("CI", "")
    assert toolchain.main() == 0
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "could not be installed: ERROR: no matching distribution" in error


def test_a_toolchain_that_cannot_be_made_fails_the_setup_where_ci_is_true(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise toolchain.ToolchainUnavailable("no network")

    monkeypatch.setattr(toolchain, "make", fail)
    monkeypatch.setenv("CI", "true")
    assert toolchain.main() == 1
