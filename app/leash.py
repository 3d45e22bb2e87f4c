"""Started in place of a command, by its path: ties the process to its parent, then becomes the command.

    python -I -S leash.py PARENT COMMAND…

A parent that is killed cannot end its children; on Linux the system does it for this one, whatever session it is in.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys

_SET_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG in linux/prctl.h


def tie(parent: int) -> None:
    """End this process with its parent, where the system can; at once if that has ended already."""
    if sys.platform != "linux":
        return
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_SET_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        raise SystemExit(1)


if __name__ == "__main__":
    tie(int(sys.argv[1]))
    os.execvp(sys.argv[2], sys.argv[2:])
