"""A memory budget as users write it: bytes, "2GiB" or "60%" of the step's own peak."""

from __future__ import annotations

import re

from optimizers.swap.errors import SwapError

UNITS = {"": 1, "b": 1, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40,
         "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}  # fmt: skip
_FORM = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(%|[a-zA-Z]*)\s*")


def read_budget(budget: int | str, peak_bytes: int) -> int:
    """Return the budget in bytes; a percentage is of `peak_bytes`, the step's peak with nothing moved.

    Raises SwapError for what is no budget.
    """
    found = None if isinstance(budget, bool) else _FORM.fullmatch(str(budget))
    unit = found[2].lower() if found else ""
    if found is None or (unit != "%" and unit not in UNITS):
        raise SwapError(f"budget {budget!r} is no amount of memory; give bytes, such as 2GiB, or a share, such as 60%")
    amount = float(found[1]) * (peak_bytes / 100 if unit == "%" else UNITS[unit])
    if not 1 <= amount < 1 << 62:
        raise SwapError(f"budget {budget!r} is {amount:.0f} bytes; give at least 1, and less than the world has")
    return int(amount)
