"""What people do on the pages, one function an act; each returns once the page shows its result."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import torch
from playwright.sync_api import Download, Locator, Page, expect

from analyzer.workload import Stepper, load_workload
from tests.e2e.watched import settle, visit

WORK_MILLISECONDS = 1_200_000.0
"""Ends a test whose capture or experiment hangs; the work takes a minute, and several on a busy machine."""
STORY_SECONDS = 3000
"""The same for a whole story, in place of the limit that suits other tests."""
LARGEST_ERROR = 1e-5


def choose(page: Page, label: str, text: str) -> None:
    """Choose the option that holds `text` in the list labelled `label`."""
    page.locator("#page").get_by_role("textbox", name=label, exact=True).click()
    page.get_by_role("option").filter(has_text=text).first.click()


def go(page: Page, title: str) -> Page:
    """Go to a page through the navigation."""
    page.get_by_role("navigation", name="Pages").get_by_role("link", name=title, exact=True).click()
    expect(page.get_by_role("navigation", name="Pages").get_by_role("link", name=title, exact=True)).to_have_attribute(
        "aria-current", "page"
    )
    return settle(page)


def state_of(place: Page | Locator) -> Locator:
    """Return the state of the first job that `place` shows."""
    return place.locator('#page [id*="job-state"]' if isinstance(place, Page) else '[id*="job-state"]').first


def capture(page: Page, workload: str) -> str:
    """Capture a workload from the Runs page, watch it to its end, open the run, and return its id."""
    choose(page, "Workload", workload)
    page.get_by_label("Threads").fill("1")
    page.get_by_role("button", name="Capture", exact=True).click()
    expect(state_of(page)).to_have_text("running")
    progress = page.locator("#page").get_by_role("progressbar").first
    page.wait_for_function(
        "() => Number(document.querySelector('#page [role=progressbar]')?.getAttribute('aria-valuenow')) > 0"
    )
    assert "Progress of" in (progress.get_attribute("aria-label") or "")
    link = page.locator("#page").get_by_role("link", name="Open the run")
    expect(link).to_be_visible(timeout=WORK_MILLISECONDS)
    link.click()
    expect(page.locator("h1")).to_have_text(workload.rpartition("/")[2])
    settle(page)
    return str(page.evaluate("new URLSearchParams(location.search).get('run')"))


def optimize_from_a_finding(page: Page) -> None:
    """Follow the Overview's first finding to Optimize, apply, and watch until the result is measured."""
    page.get_by_role("link", name="Fix it in Optimize").first.click()
    expect(page.locator("h1")).to_have_text("Optimize")
    page.locator("#optimizer-fusion").get_by_role("button", name="Apply", exact=True).click()
    expect(state_of(page)).to_have_text("running")
    expect(page.get_by_role("heading", name="Measured result")).to_be_visible(timeout=WORK_MILLISECONDS)


def act(page: Page, name: str) -> None:
    """Press a button of the experiment that is shown."""
    page.locator("#page").get_by_role("button", name=name, exact=True).click()


def downloaded_artifact(page: Page, experiment: str, folder: Path) -> Path:
    """Export an experiment's artifact, download it and unpack it in `folder`; return the unpacked folder."""
    visit(page, f"/experiments?experiment={experiment}")
    act(page, "Export the artifact")
    link = page.get_by_role("link", name="Download the artifact")
    expect(link).to_be_visible(timeout=WORK_MILLISECONDS)
    with page.expect_download() as found:
        # Without the new tab that it asks for, in which no test could wait for it.
        link.evaluate("(element) => element.removeAttribute('target')")
        link.click()
    return _unpacked(found.value, folder)


def _unpacked(download: Download, folder: Path) -> Path:
    archive = folder / download.suggested_filename
    download.save_as(archive)
    with zipfile.ZipFile(archive) as opened:
        opened.extractall(folder)
    (unpacked,) = [path for path in folder.iterdir() if path.is_dir()]
    return unpacked


def the_regions_are_shown_and_one_runs_by_itself(page: Page, experiment: str, folder: Path) -> None:
    """Look at the regions of an experiment, export the one that saves most, and run what was downloaded."""
    visit(page, f"/experiments?experiment={experiment}")
    card = page.locator("#section-regions")
    for title in ("Ways to run the whole step", "Every way, measured", "Errors against float64"):
        expect(card.get_by_role("heading", name=title)).to_be_visible()
    card.get_by_text("Generated source").click()
    expect(card.locator(".hb-region-code")).to_contain_text("numba")
    act(page, "Export this region")
    link = page.get_by_role("link", name="Download the reproducer")
    expect(link).to_be_visible(timeout=WORK_MILLISECONDS)
    with page.expect_download() as found:
        link.evaluate("(element) => element.removeAttribute('target')")
        link.click()
    script = _unpacked(found.value, folder) / "reproduce.py"
    ended = subprocess.run(
        [sys.executable, "-I", str(script), "--rounds", "2"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=WORK_MILLISECONDS / 1000,
        check=False,
    )
    assert ended.returncode == 0 and "the results are right" in ended.stdout, ended


def check_loads(page: Page, artifact: Path, workload: str) -> None:
    """Assert that the lines on the artifact's page load it in a fresh process, with the workload's own answers."""
    visit(page, f"/artifacts?artifact={artifact.name}")
    lines = page.locator(".hb-code").inner_text()
    stepper = Stepper(load_workload(workload)[0], seed=11)
    inputs, _ = stepper.batch
    torch.save(inputs, artifact.parent / "inputs.pt")
    code = (
        f"{lines}\nimport sys, torch\n"
        "assert not any(name.split('.')[0] in ('analyzer', 'optimizers', 'kernels', 'app') for name in sys.modules)\n"
        "torch.save(model(*torch.load('inputs.pt')), 'outputs.pt')\n"
    )
    subprocess.run(
        [sys.executable, "-I", "-c", code],
        cwd=artifact.parent,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=True,
        timeout=WORK_MILLISECONDS / 1000,
    )
    expected = stepper.step()
    difference = (torch.load(artifact.parent / "outputs.pt") - expected).abs().max() / expected.abs().max()
    assert float(difference) <= LARGEST_ERROR
