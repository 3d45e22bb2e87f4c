"""`hotbench publish RUN-or-EXPERIMENT`: a report that nobody can change, for others to answer."""

from __future__ import annotations

import argparse

from app.terminal import Terminal, invocation, store_option
from app.units import printable

NAME = "publish"
HELP = "save the report of a run or an experiment as a record to review"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the value and the title."""
    parser.add_argument("value", metavar="RUN-or-EXPERIMENT", help='an id, a beginning of it, or "latest"')
    parser.add_argument("--title", default="", metavar="TEXT", help="default: the value's own name")


def run(options: argparse.Namespace) -> int:
    """Publish; print the report's id and the SHA-256 of its HTML."""
    from app import tables, workbench
    from app.author import command_line_author
    from app.reports.publish import HTML, load_published
    from app.store import open_store

    terminal = Terminal(options.json)
    with open_store(options.store) as store:
        entry = workbench.publish(store, options.value, command_line_author(), options.title)
        folder = store.folder(entry)
        published = load_published(folder)
    data = {
        "report": entry.id,
        "title": published.about.title,
        "value": published.about.value,
        "sha256": published.html_sha256,
        "file": str(folder / HTML),
        "artifact": published.about.artifact,
        "artifact_sha256": published.about.artifact_digest,
        "published_by": published.about.published_by,
        "created": entry.created,
    }
    terminal.result(data, f"published {entry.id}  {printable(published.about.title)}", f"sha256 {data['sha256']}")
    store_words = store_option(options.store)
    command = f"{invocation()} review {entry.id}{store_words}"
    terminal.show("", tables.next_commands("Review it", [f"{command} --comment TEXT", f"{command} --approve"]))
    return 0
