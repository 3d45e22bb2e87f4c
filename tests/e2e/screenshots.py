"""Every page as a picture, in both modes and at both widths, over a real LSTM run and a real fusion experiment.

    python -m tests.e2e.screenshots -o FOLDER [--store FOLDER]

--store keeps what was measured, so that the pictures can be made again at once; without it that takes some minutes.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from playwright.sync_api import Browser, Page, sync_playwright

from analyzer.progress import silent
from app import workbench
from app.jobs.queue import Jobs
from app.jobs.work import KINDS
from app.jobs.work import settle as settle_result
from app.store import Store, open_store, reviews
from tests.e2e.browser import BrowserUnavailable
from tests.e2e.places import address
from tests.e2e.server_process import ROOT, serving
from tests.e2e.watched import HEIGHT, NARROW, WIDE, Scheme, launched, settle, visit, watched

WORKLOAD = ROOT / "examples" / "lstm.py"
USER = "local"


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the pictures and return 0, or 2 where there is no browser."""
    parser = argparse.ArgumentParser(prog="python -m tests.e2e.screenshots", description=__doc__)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER", help="where the pictures go")
    parser.add_argument("--store", type=Path, metavar="FOLDER", help="a store to make, or to use again")
    parser.add_argument("--only", action="append", metavar="NAME", help="make only this page's pictures")
    options = parser.parse_args(arguments)
    try:
        with tempfile.TemporaryDirectory(prefix="hotbench-pictures-") as folder:
            shown = measured(options.store or Path(folder) / "store")
            for path in take(shown, options.store or Path(folder) / "store", options.output, options.only or ()):
                print(path)
    except BrowserUnavailable as error:
        print(f"no pictures: {error}", file=sys.stderr)
        return 2
    return 0


def measured(place: Path) -> Mapping[str, str]:
    """Return the addresses to show, by name; what the store lacks is measured first, on one thread."""
    with open_store(str(place)) as store:
        if not store.entries("report"):
            measure(store)
        run, experiment = store.entries("run")[-1], store.entries("experiment")[-1]
        artifact, report = store.entries("artifact")[-1], store.entries("report")[-1]
        latest = store.entries("run")[0]
    about = {"run": run.id}
    return {
        "runs": address("/runs"),
        "overview": address("/", **about),
        "operators": address("/operators", **about, op="40"),
        "graph": address("/graph", **about),
        "optimize": address("/optimize", **about),
        "experiments": address("/experiments", **about),
        "experiment": address("/experiments", **about, experiment=experiment.id),
        "compare": address("/compare", before=run.id, after=latest.id),
        "artifacts": address("/artifacts"),
        "artifact": address("/artifacts", artifact=artifact.id),
        "reports": address("/reports"),
        "report": address("/reports", report=report.id),
        "jobs": address("/jobs"),
        "workers": address("/workers"),
    }


def measure(store: Store) -> None:
    """Put into the store: two runs, an experiment that is kept, its artifact, and a report with a remark."""
    run = in_a_job(store, "profile", {"workload": f"{WORKLOAD}:workload", "threads": 1}, "Capture lstm.py:workload")
    arguments = {"run": run["run"], "optimizers": ["fusion"], "settings": {}}
    proof = in_a_job(store, "optimize", arguments, "Fusion of lstm.py:workload", run["run"])
    in_a_job(store, "export", {"experiment": proof["experiment"]}, "Export fusion", run["run"])
    report = workbench.publish(store, proof["experiment"], USER, "The LSTM cell, fused")
    reviews.add_comment(store, report.id, "op:40", "ada", "Is this the product that stays outside the fused program?")
    in_a_job(store, "profile", {"workload": f"{WORKLOAD}:training", "threads": 1}, "Capture lstm.py:training")


def in_a_job(
    store: Store, kind: str, arguments: Mapping[str, object], title: str, about: str | None = None
) -> Mapping[str, Any]:
    """Do a job of its kind in this process and return its result; its row tells of it."""
    jobs = Jobs(store.database)
    submitted = jobs.submit(kind, arguments, title=title, user=USER, about=about)
    job = jobs.claim_local()
    if job is None or job.id != submitted.id or job.claim is None:
        raise RuntimeError("another job runs in this store; end it, or give another --store")
    result = KINDS[kind](store, job.arguments, silent, workbench.ignore)
    settle_result(store, job, result)
    jobs.finish(job.id, job.claim, "done", result)
    return result


def take(shown: Mapping[str, str], store: Path, folder: Path, only: Sequence[str] = ()) -> list[Path]:
    """Return the pictures made: NAME-SCHEME-WIDTH.png, each of the whole page."""
    folder.mkdir(parents=True, exist_ok=True)
    found: list[Path] = []
    with (
        serving(store, [WORKLOAD.parent]) as server,
        sync_playwright() as playwright,
        launched(playwright) as browser,
    ):
        for scheme in get_args(Scheme):
            for width in (WIDE, NARROW):
                found += pictures(browser, server.url, shown, folder, scheme, width, only)
    return found


def pictures(
    browser: Browser,
    url: str,
    shown: Mapping[str, str],
    folder: Path,
    scheme: Scheme,
    width: int,
    only: Sequence[str],
) -> list[Path]:
    """Return the pictures of one mode and width."""
    found = []
    with watched(browser, url, width=width, scheme=scheme) as (context, _):
        page = context.new_page()
        for name, where in shown.items():
            if only and name not in only:
                continue
            visit(page, where)
            found.append(folder / f"{name}-{scheme}-{width}.png")
            whole(page, width).screenshot(path=found[-1], full_page=True)
    return found


def whole(page: Page, width: int) -> Page:
    """Return the page in a window as high as itself: what scrolls into view is drawn then."""
    page.set_viewport_size({"width": width, "height": HEIGHT})
    height = page.evaluate("document.documentElement.scrollHeight")
    page.set_viewport_size({"width": width, "height": min(max(int(height), HEIGHT), 6000)})
    if page.locator("#overview-bytes").count():
        page.locator("#overview-bytes .main-svg").first.wait_for()
    return settle(page)


if __name__ == "__main__":
    sys.exit(main())
