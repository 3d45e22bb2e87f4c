"""The same story through a worker: another process with its own folder, where no web or database package exists."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from app.store import open_store
from tests.e2e.acts import STORY_SECONDS, capture, check_loads, downloaded_artifact, go, optimize_from_a_finding
from tests.e2e.conftest import WORKLOADS
from tests.e2e.server_process import ROOT, plain_environment, serving, wait_for
from tests.e2e.test_story import the_only
from tests.e2e.watched import visit, watched

CORE_ONLY = ROOT / "tests" / "app" / "worker" / "core_only"
"""A sitecustomize that refuses those packages, and lets experiments measure little: the other story does it in full."""


@pytest.mark.timeout(STORY_SECONDS)
def test_a_worker_without_dash_captures_optimizes_and_exports(browser: Browser, tmp_path: Path):
    box, nothing = tmp_path / "box", tmp_path / "nothing"
    nothing.mkdir()
    with serving(tmp_path / "store", [nothing]) as server, watched(browser, server.url) as (context, _):
        page = visit(context.new_page(), "/workers")
        command = add_worker(page, "gpu-1")
        with worker_of(command, box):
            expect(page.locator("#workers-list")).to_contain_text("ready")
            go(page, "Runs")
            run = capture(page, "models/cell.py:workload")
            expect(go(page, "Runs").locator("#runs-grid")).to_contain_text("gpu-1")
            visit(page, f"/?run={run}")
            optimize_from_a_finding(page)
            expect(page.locator(".hb-verdict")).to_contain_text("faster")
            experiment = the_only(server.store, "experiment")
            artifact = downloaded_artifact(page, experiment, tmp_path / "download")
            check_loads(page, artifact, f"{box / 'models' / 'cell.py'}:workload")
            jobs = visit(page, "/jobs").locator("#page")
            for title in ("Capture", "Fusion", "Export"):
                row = jobs.get_by_role("row").filter(has_text=re.compile(title, re.IGNORECASE)).first
                expect(row).to_contain_text("gpu-1")
                expect(row).to_contain_text("done")
            it_stops_in_words_once_it_is_revoked(page, box)
        with open_store(str(server.store)) as store:
            assert store.get(run).summary["place"] != "local"


def add_worker(page: Page, name: str) -> str:
    """Add a worker on its page and return the command that is to be typed on its machine."""
    page.get_by_label("Name of the new worker").fill(name)
    page.get_by_role("button", name="Add worker").click()
    shown = page.locator("#workers-token .hb-command-text")
    expect(shown).to_contain_text("hotbench worker")
    return shown.inner_text()


@contextlib.contextmanager
def worker_of(command: str, box: Path) -> Iterator[subprocess.Popen[str]]:
    """Return a context with the worker that the command starts, in a folder of its own with a copy of the workload."""
    (box / "models").mkdir(parents=True)
    (box / "home").mkdir()
    shutil.copy(WORKLOADS / "cell.py", box / "models" / "cell.py")
    assignment, *words = shlex.split(command)
    assert words[:2] == ["hotbench", "worker"]
    variable, _, token = assignment.partition("=")
    arguments = [str(box) if word == "DIR" else word for word in words[1:]]
    environment = plain_environment(
        {
            variable: token,
            "PYTHONPATH": os.pathsep.join([str(CORE_ONLY), str(ROOT)]),
            "HOME": str(box / "home"),
            "XDG_CACHE_HOME": str(box / "home" / "cache"),
            "TMPDIR": str(box / "home"),
        }
    )
    with (box / "worker.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "app", *arguments],
            cwd=box,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
    try:
        yield process
    except BaseException as error:
        error.add_note("the worker printed: " + (box / "worker.log").read_text()[-2000:])
        raise
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def it_stops_in_words_once_it_is_revoked(page: Page, box: Path) -> None:
    go(page, "Workers")
    page.get_by_role("button", name="Revoke the token of gpu-1").click()
    page.get_by_role("dialog").get_by_role("button", name=re.compile("Revoke")).click()
    expect(page.locator("#workers-list")).to_contain_text("revoked")
    log = box / "worker.log"
    wait_for("the worker's last words", lambda: "revoked" in log.read_text())
    assert "Traceback" not in log.read_text()
