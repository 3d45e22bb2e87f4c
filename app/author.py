"""Who acts from the command line."""

from __future__ import annotations

import getpass

from app.units import printable

MARK = "command line"
_LONGEST_NAME = 60


def command_line_author() -> str:
    """Return "ada (command line)": the system user's name; no user of the page can be called so."""
    try:
        name = " ".join(printable(getpass.getuser()).split())[:_LONGEST_NAME]
    except (KeyError, OSError, ImportError):
        # A container may run under a number that has no name.
        name = ""
    return f"{name} ({MARK})" if name else MARK


def same_person(one: str, other: str) -> bool:
    """Return whether two names may be one person's: "ada" on the page is taken for "ada (command line)"."""
    return one.removesuffix(f" ({MARK})") == other.removesuffix(f" ({MARK})")
