"""`hotbench tag RUN TAG…`: label runs, to find them again."""

from __future__ import annotations

import argparse

from analyzer.errors import HotbenchError
from app.terminal import Terminal

NAME = "tag"
HELP = "give a run tags, or take them away"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the run and the tags."""
    parser.add_argument("run", metavar="RUN", help='a run\'s id, a beginning of it, or "latest"')
    parser.add_argument("tags", nargs="+", metavar="TAG", help="quote one that has blanks in it")
    parser.add_argument("--remove", action="store_true", help="take these tags away instead of adding them")


def run(options: argparse.Namespace) -> int:
    """Add or take away; print the run's tags as they are now."""
    from app.store import open_store
    from app.tags import clean_tags

    terminal = Terminal(options.json)
    given = clean_tags(options.tags)
    if not given:
        raise HotbenchError("an empty text is no tag; write a word, such as baseline")
    with open_store(options.store) as store:
        entry = store.find(options.run, ("run",))
        unknown = sorted(set(given) - set(entry.tags))
        if options.remove and unknown:
            raise HotbenchError(
                f"{entry.id} has no tag {', '.join(map(repr, unknown))}; it has: {', '.join(entry.tags) or 'none'}"
            )
        wanted = set(entry.tags) - set(given) if options.remove else {*entry.tags, *given}
        entry = store.tag(entry, clean_tags(wanted))
    data = {"run": entry.id, "name": entry.name, "tags": list(entry.tags)}
    terminal.result(data, f"{entry.id} has the tags: {', '.join(entry.tags) or 'none'}")
    return 0
