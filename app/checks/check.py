"""One finding of the doctor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

OK, WARN, FAIL, ABSENT = "ok", "warn", "fail", "absent"
STATES = (OK, ABSENT, WARN, FAIL)


@dataclass(frozen=True, slots=True)
class Check:
    """One finding.

    state:  ok; absent (not here, and nothing needs it: no GPU); warn (something optional is missing or wrong);
            fail (nothing works without it).
    found:  what is there, in words.
    remedy: what to do about it, "" where there is nothing to mend.
    """

    name: str
    state: str
    found: str
    remedy: str = ""


def guarded(name: str, check: Callable[[], Check]) -> Check:
    """Return the check's finding; one that itself fails says so, and the others go on."""
    try:
        return check()
    except Exception as error:
        text = " ".join(str(error).split())
        return Check(name, WARN, f"could not be checked: {type(error).__name__}: {text}", "report this line to us")
