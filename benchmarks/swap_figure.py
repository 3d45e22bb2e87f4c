"""The front of a measured result as a figure: peak over base and time of a step, ours and the peers'.

python -m benchmarks.swap_figure RESULT.json FIGURE.svg
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from analyzer.errors import HotbenchError
from benchmarks.swap_cuts import FRONT
from benchmarks.swap_findings import NONE, PEAK, SECONDS

WIDTH, HEIGHT = 720, 420
LEFT, RIGHT, TOP, BOTTOM = 70, 24, 44, 56
LINES = {"hotbench": "#1c6dd0", "checkpoint": "#c2571a"}
"""Who has a line of several points; all others are dots in grey."""
OTHERS = "#5f6b7a"
MIB = 2.0**20
LETTER = 6.6
"""About the width of a letter."""


@dataclass(frozen=True, slots=True)
class Point:
    """A way to run the step. times: seconds a step over those of the plain step."""

    who: str
    mebibytes: float
    times: float


def points_of(result: Mapping[str, Any]) -> tuple[Point, ...]:
    """Return the points of the front. Raises HotbenchError for a result without one."""
    front = result.get("details", {}).get(FRONT)
    if not front:
        raise HotbenchError(f"the result has no {FRONT}; measure it with `python -m benchmarks.swap --case {FRONT}`")
    seconds = {item["who"]: float(item[SECONDS]) for item in front["points"]}
    if NONE not in seconds:
        raise HotbenchError(f"the {FRONT} of the result has no plain step to compare with; measure it again")
    return tuple(Point(item["who"], item[PEAK] / MIB, item[SECONDS] / seconds[NONE]) for item in front["points"])


def draw(points: Sequence[Point], words: str) -> str:
    """Return the figure as SVG. words: what it was measured on."""
    scale = _Scale(points)
    parts = [*_frame(scale, words)]
    plain = [point for point in points if point.who == NONE]
    for name, colour in LINES.items():
        line = sorted(
            [*plain, *(point for point in points if _family(point.who) == name)], key=lambda point: point.mebibytes
        )
        path = " ".join(f"{scale.x(point.mebibytes):.1f},{scale.y(point.times):.1f}" for point in line)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
    taken: list[tuple[float, float]] = []
    for point in points:
        parts += _dot(scale, point, taken)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        f'font-size="12">\n' + "\n".join(parts) + "\n</svg>\n"
    )


class _Scale:
    """From MiB and times to places in the figure."""

    def __init__(self, points: Sequence[Point]) -> None:
        self.most = max(point.mebibytes for point in points) * 1.08
        self.top = max(1.1, math.ceil(max(point.times for point in points) * 10 + 0.5) / 10)
        self.low = min(0.9, math.floor(min(point.times for point in points) * 10) / 10)

    def x(self, mebibytes: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * mebibytes / self.most

    def y(self, times: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (times - self.low) / (self.top - self.low)


def _family(who: str) -> str:
    return who.rsplit("-", 1)[0] if who.rsplit("-", 1)[-1].isdigit() else who


def _frame(scale: _Scale, words: str) -> list[str]:
    found = [
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        f'<text x="{LEFT}" y="20" font-size="14" fill="#1d2530">Training in less memory: lower left is better</text>',
        f'<text x="{LEFT}" y="36" fill="{OTHERS}">{escape(words)}</text>',
    ]
    for tick in range(round(scale.low * 10), round(scale.top * 10) + 1):
        y = scale.y(tick / 10)
        found.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#e3e7ec"/>')
        found.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end" fill="{OTHERS}">{tick / 10:.1f}</text>')
    step = next(size for size in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 1e4) if scale.most < 9 * size)
    for place in range(int(scale.most / step) + 1):
        x = scale.x(place * step)
        found.append(
            f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle" fill="{OTHERS}">{place * step:g}</text>'
        )
    found.append(
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 14}" text-anchor="middle" fill="#1d2530">peak over base, '
        "MiB</text>"
    )
    middle = (TOP + HEIGHT - BOTTOM) / 2
    found.append(
        f'<text x="20" y="{middle}" text-anchor="middle" transform="rotate(-90 20 {middle})" fill="#1d2530">time of a '
        "step, plain = 1</text>"
    )
    return found


def _dot(scale: _Scale, point: Point, taken: list[tuple[float, float]]) -> list[str]:
    """Return a point and its name, which stands below it where it would cover another; taken: the names' middles."""
    x, y = scale.x(point.mebibytes), scale.y(point.times)
    colour = LINES.get(_family(point.who), OTHERS)
    name = {NONE: "plain step"}.get(point.who, point.who.replace("_", " "))
    if point.who.startswith("hotbench-"):
        name = f"−{point.who.split('-')[1]} %"
    end = x > WIDTH - 160
    middle, height = x + (-1 if end else 1) * (8 + LETTER * len(name) / 2), y - 7
    if any(abs(middle - other) < 8 * LETTER and abs(height - line) < 12 for other, line in taken):
        height = y + 17
    taken.append((middle, height))
    place = f'x="{x - 8 if end else x + 8:.1f}" y="{height:.1f}" text-anchor="{"end" if end else "start"}"'
    return [
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>',
        f'<text {place} fill="{colour}">{escape(name)}</text>',
    ]


def main(arguments: Sequence[str]) -> int:
    """Write the figure and return the exit code."""
    if len(arguments) != 2:
        print("usage: python -m benchmarks.swap_figure RESULT.json FIGURE.svg", file=sys.stderr)
        return 2
    source, target = map(Path, arguments)
    try:
        result = json.loads(source.read_text())
        front, found = points_of(result), result["environment"]
        when = result["details"][FRONT].get("measured", "")[:10]
        target.write_text(draw(front, f"{found['cpu']}, one thread, torch {found['torch']}, measured {when}"))
    except (OSError, ValueError, KeyError, HotbenchError) as error:
        print(f"benchmarks.swap_figure: {source}: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
