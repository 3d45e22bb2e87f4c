"""One generated kernel of an experiment's candidate as a folder that runs by itself: for the command line and jobs."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from analyzer.progress import Progress, silent
from analyzer.record import to_plain
from app.store import Entry, Store
from app.workbench import read_candidate

# The optimizers with their compiler are imported where they are used.


def export_region(store: Store, text: str, region: str, folder: Path) -> dict[str, Any]:
    """Write one generated kernel of an experiment's candidate into `folder`; return what was written, as plain values.

    Raises HotbenchError for an experiment without a candidate, and for a region that its candidate does not have.
    """
    from optimizers.reproducer import export_reproducer

    proof = read_candidate(store, text)
    made = export_reproducer(proof.candidate, region, folder, proof.run.threads)
    place = str(folder.absolute())
    plain: dict[str, Any] = to_plain(made)
    return {**plain, "folder": place, "runs_with": made.runs_with.replace("DIR", shlex.quote(place))}


def export_region_to_store(store: Store, text: str, region: str, progress: Progress = silent) -> Entry:
    """Save one generated kernel of an experiment's candidate in the store, for the page to hand out; return its entry.

    Raises HotbenchError as `export_region` does.
    """
    from optimizers.reproducer import export_reproducer

    proof = read_candidate(store, text)
    progress("build the model again and take the kernel's memory from a run of it", 0.1)
    with store.staging() as staging:
        made = export_reproducer(proof.candidate, region, staging / "reproducer", proof.run.threads)
        progress("save the folder", 0.9)
        entry = store.adopt(
            staging / "reproducer",
            "reproducer",
            name=f"{proof.run.name}: {made.kernel}",
            parent=proof.experiment.id,
            summary=reproducer_facts(made.kernel, len(made.files)),
        )
    progress("done", 1.0)
    return entry


def reproducer_facts(kernel: str, files: int) -> dict[str, Any]:
    """Return what the store's entry says of an exported kernel."""
    return {"region": kernel, "files": files}
