"""Numbers as people read them: ms, MiB, GFLOP. JSON stays in SI base units; this is for eyes only."""

from __future__ import annotations

import math
import re
import unicodedata
from datetime import UTC, datetime

MISSING = "–"
_RATIO = re.compile(r"(?<![\d.])(\d+\.\d{3})x?(?![\w.×])")
"""A ratio in a verdict's reason, which has three places: 1.026 or 5.770x."""


def digits(value: float, significant: int = 3) -> str:
    """Return `value` with about `significant` digits: 1,234 or 12.3 or 0.0123; below 1e-4 as 1.23e-05."""
    if not math.isfinite(value):
        return str(value)
    if value == 0:
        return "0"
    if abs(value) < 1e-4:
        return f"{value:.{significant - 1}e}"
    before_point = math.floor(math.log10(abs(value))) + 1
    places = max(significant - before_point, 0)
    return f"{value:,.{places}f}"


def milliseconds(seconds: float | None) -> str:
    """Return "12.3 ms", below 0.01 ms in µs; a dash for None."""
    if seconds is None:
        return MISSING
    return f"{digits(seconds * 1e6)} µs" if 0 < abs(seconds) < 1e-5 else f"{digits(seconds * 1e3)} ms"


def duration(seconds: float | None) -> str:
    """Return what takes long as "12.3 s", from 2 minutes on in minutes, below a second in ms; a dash for None."""
    if seconds is None:
        return MISSING
    if seconds >= 120:
        return f"{digits(seconds / 60)} min"
    return f"{digits(seconds)} s" if seconds >= 1 else milliseconds(seconds)


def mebibytes(count: float | None) -> str:
    """Return "1.50 MiB", below 0.1 MiB in bytes or KiB, from 1 GiB on in GiB; a dash for None."""
    if count is None:
        return MISSING
    if abs(count) < 1024:
        return f"{count:,.0f} B"
    for size, unit in ((2**30, "GiB"), (104_858, "MiB")):
        if abs(count) >= size:
            return f"{digits(count / (2**20 if unit == 'MiB' else size))} {unit}"
    return f"{digits(count / 2**10)} KiB"


def gigaflops(count: float | None) -> str:
    """Return "0.0262 GFLOP", less in MFLOP or FLOP; a dash for None and 0: none, or the count is not known."""
    if not count:
        return MISSING
    if abs(count) >= 1e7:
        return f"{digits(count / 1e9)} GFLOP"
    return f"{digits(count / 1e6)} MFLOP" if abs(count) >= 1e4 else f"{count:,.0f} FLOP"


def plural(count: int, noun: str) -> str:
    """Return "1 op" or "1,234 ops"."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def moment(created: str) -> str:
    """Return an ISO 8601 time as "2026-01-02 03:04 UTC"; as it is when it is none."""
    try:
        value = datetime.fromisoformat(created)
    except ValueError:
        return printable(created)
    return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC") if value.tzinfo else created


def percent(share: float | None, places: int = 1) -> str:
    """Return "38.1 %" for 0.381; a dash for None and NaN."""
    return MISSING if share is None or math.isnan(share) else f"{100 * share:.{places}f} %"


def ratio(value: float | None) -> str:
    """Return "2.31×"; a dash for None and NaN: nothing was measured."""
    return MISSING if value is None or math.isnan(value) else f"{digits(value)}×"


def quantity(value: float, unit: str) -> str:
    """Return a value with its unit in the form for people: "s" in ms, "bytes" in MiB, "x" as a factor."""
    readers = {"s": milliseconds, "bytes": mebibytes, "x": ratio, "flop": gigaflops}
    return readers[unit](value) if unit in readers else f"{digits(value)} {unit}".rstrip()


def evidence(name: str, value: object) -> str:
    """Return a finding's figure for people; its unit is in its name, such as self_seconds or bytes_moved."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return printable(str(value)) or MISSING
    words = name.split("_")
    if "seconds" in words:
        return milliseconds(value)
    if "bytes" in words:
        return mebibytes(value)
    if "flops" in words:
        return gigaflops(value)
    if "share" in words or "fraction" in words:
        return percent(value)
    return f"{value:,}" if isinstance(value, int) else digits(value)


def evidence_label(name: str) -> str:
    """Return a figure's name for people, its unit left to the value: mean_seconds_per_op -> mean time per op."""
    return " ".join({"seconds": "time", "flops": "work"}.get(word, word) for word in name.split("_"))


def verdict_reason(verdict: str, reason: str) -> str:
    """Return the reason for showing beside its verdict, which it may begin with; its ratios as `ratio` writes them."""
    return _RATIO.sub(lambda found: ratio(float(found[1])), reason.removeprefix(f"{verdict}: "))


def printable(text: str) -> str:
    """Return `text` on one line without control characters: names come from models and files, and may hold escapes."""
    return "".join(" " if character in "\t\n\r" else "�" if _controls(character) else character for character in text)


def _controls(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")
