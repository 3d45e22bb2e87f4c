"""Machine code from Numba's cache without Numba's compiler, which takes half a second to get ready."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from numba.core.caching import Cache
from numba.core.runtime.nrt import rtsys

_lock = threading.RLock()


@contextmanager
def loading_alone() -> Iterator[None]:
    """Let this thread load compiled functions without the tables of types and functions that compiling needs.

    A function that is not in the cache after all is compiled as ever: the compiler fills the tables by itself.
    """
    caches: Any = Cache
    thread = threading.get_ident()
    with _lock:
        original = caches.load_overload

        def load_overload(self: Any, signature: Any, target: Any) -> Any:
            if threading.get_ident() != thread:
                return original(self, signature, target)
            rtsys.initialize(target)  # the symbols of Numba's runtime, which machine code may refer to
            with self._guard_against_spurious_io_errors():
                return self._load_overload(signature, target)

        caches.load_overload = load_overload
        try:
            yield
        finally:
            caches.load_overload = original
