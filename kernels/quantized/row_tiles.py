"""Compiled functions over tiles of rows, on several threads: they hold no Python lock while they compute."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

_TILES_A_THREAD = 4


def over_rows(function: Callable[[int, int], object], rows: int, threads: int = 1) -> None:
    """Call function(first, last) for tiles that together are all the rows, `threads` at a time."""
    if threads <= 1 or rows < 2:
        function(0, rows)
        return
    tiles = min(rows, threads * _TILES_A_THREAD)
    edges = [rows * number // tiles for number in range(tiles + 1)]
    with ThreadPoolExecutor(threads) as pool:
        for done in [pool.submit(function, *edge) for edge in itertools.pairwise(edges)]:
            done.result()
