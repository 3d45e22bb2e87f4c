"""The first moment of a variant's process: memory laid out alike for all of them, then `analyzer.variant`.

Where the loader and the heap happen to lie changes how caches and branch predictors work: processes of equal code
differ by 1 to 4 % for as long as they live (docs/experiments.md). Without address randomisation they lie alike.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys

ADDR_NO_RANDOMIZE = 0x0040000  # linux/personality.h


def fix_addresses() -> None:
    """Turn address randomisation off for what this process becomes; where the system forbids it, nothing changes."""
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        found = libc.personality(0xFFFFFFFF)
        if found >= 0:
            libc.personality(found | ADDR_NO_RANDOMIZE)


if __name__ == "__main__":
    if sys.platform == "linux":
        fix_addresses()
    os.execv(sys.executable, [sys.executable, "-P", "-m", "analyzer.variant"])
