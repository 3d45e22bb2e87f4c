"""The browser's own life: found, installed where that may be, its absence visible."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.e2e import browser
from tests.e2e.conftest import require_browser

ROOT = Path(__file__).parents[2]


@pytest.fixture
def empty_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def put_executable(folder: Path, name: str) -> Path:
    path = folder / name
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("name", browser.NAMES)
def test_it_is_found_under_each_of_its_names(name: str, empty_path: Path):
    path = put_executable(empty_path, name)
    assert browser.find() == path


def test_where_it_is_there_nothing_is_installed(empty_path: Path):
    path = put_executable(empty_path, "chromium")
    commands: list[Sequence[str]] = []
    assert browser.ensure(commands.append, is_root=True) == (path, False)
    assert commands == []


def test_root_on_debian_installs_it(empty_path: Path):
    put_executable(empty_path, "apt-get")
    commands: list[Sequence[str]] = []

    def run(command: Sequence[str]) -> None:
        commands.append(command)
        if "install" in command:
            put_executable(empty_path, "chromium")

    path, installed = browser.ensure(run, is_root=True)
    assert installed and path.name == "chromium"
    assert [command[1] for command in commands] == ["update", "install"]


@pytest.mark.parametrize("is_root", [True, False])
def test_elsewhere_it_says_what_to_install(is_root: bool, empty_path: Path):
    if not is_root:
        put_executable(empty_path, "apt-get")
    with pytest.raises(browser.BrowserUnavailable, match="install the package 'chromium'"):
        browser.ensure(is_root=is_root)


def test_a_failed_installation_gives_apts_own_reason(empty_path: Path):
    path = empty_path / "apt-get"
    path.write_text("#!/bin/sh\necho 'Reading lists'\necho 'E: Unable to locate package chromium' >&2\nexit 100\n")
    path.chmod(0o755)
    with pytest.raises(browser.BrowserUnavailable, match="Unable to locate package chromium"):
        browser.ensure(is_root=True)


def test_without_browser_a_test_is_skipped_with_the_reason(empty_path: Path):
    assert shutil.which("chromium") is None
    command = [sys.executable, "-m", "pytest", "-rs", "-x", "-p", "no:cacheprovider", "tests/e2e/test_address.py"]
    environment = os.environ | {"CI": ""}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0
    assert " skipped" in done.stdout and " passed" not in done.stdout
    assert browser.COMMAND in done.stdout.replace("\n", " ")


def test_under_ci_its_absence_is_a_failure(empty_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="no chromium on PATH"):
        require_browser()
