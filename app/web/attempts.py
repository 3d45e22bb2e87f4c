"""Tries to log in, counted: guessing passwords is slow."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable

WINDOW_SECONDS = 900.0
TRIES_OF_ADDRESS_AND_NAME = 5
TRIES_OF_ADDRESS = 20
TRIES_OF_NAME = 50
_KEPT = 20_000


class Attempts:
    """Wrong passwords of the last quarter of an hour. In memory: the server is one process."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._times: OrderedDict[tuple[str, ...], deque[float]] = OrderedDict()
        self._lock = threading.Lock()

    def begin(self, address: str, name: str) -> float:
        """Return 0 when this address may try this name now, else the seconds to wait.

        A try counts as wrong until `succeeded` says otherwise: many at the same time are as few as one by one.
        """
        with self._lock:
            now = self._clock()
            wait = max(self._wait(key, limit, now) for key, limit in _limits(address, name))
            if wait == 0:
                for key, limit in _limits(address, name):
                    self._times.setdefault(key, deque(maxlen=limit)).append(now)
                    self._times.move_to_end(key)
            # An attacker who tries ever new names must not fill the memory.
            while len(self._times) > _KEPT:
                self._times.popitem(last=False)
            return wait

    def succeeded(self, address: str, name: str) -> None:
        """Take back the try that had the right password, and what this address failed with this name."""
        with self._lock:
            both, *others = (key for key, _limit in _limits(address, name))
            self._times.pop(both, None)
            for key in others:
                if self._times.get(key):
                    self._times[key].pop()

    def _wait(self, key: tuple[str, ...], limit: int, now: float) -> float:
        times = self._times.get(key)
        if times is None or len(times) < limit:
            return 0.0
        return max(0.0, times[0] + WINDOW_SECONDS - now)


def _limits(address: str, name: str) -> tuple[tuple[tuple[str, ...], int], ...]:
    return (
        (("both", address, name), TRIES_OF_ADDRESS_AND_NAME),
        (("address", address), TRIES_OF_ADDRESS),
        (("name", name), TRIES_OF_NAME),
    )
