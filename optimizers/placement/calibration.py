"""What `calibrate` measured, kept in the user's cache folder: predictions of this machine take it from there."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from analyzer.device import processor_name, usable_cores
from analyzer.errors import RecordError
from analyzer.record import dump_json, from_plain, load_json, to_plain
from optimizers.placement.costs import Costs, MeasuredExchange, Rates
from optimizers.placement.errors import PlacementError
from optimizers.placement.rank_work import StepWork

FILE = "placement-calibration.json"
FORMAT_VERSION = 3


@dataclass(frozen=True, slots=True)
class Calibration:
    """What one machine's exchanges cost.

    rates:   what a core gives when all are busy, against one that is busy alone.
    work:    what a step takes more on a rank than alone, its exchange aside, by backend.
    missing: why a backend could not be measured.
    """

    processor: str
    cores: int
    rates: Rates
    exchanges: tuple[MeasuredExchange, ...]
    work: dict[str, StepWork] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION

    def costs(self) -> Costs:
        """Return it as predictions take it."""
        return Costs(self.exchanges, self.rates, dict(self.work))

    def has(self, backend: str, world_size: int) -> bool:
        """Return whether a backend was measured between so many processes."""
        return any((item.backend, item.world_size) == (backend, world_size) for item in self.exchanges)

    def table(self) -> str:
        """Return it as lines of text: a backend and size each, with milliseconds."""
        lines = [
            f"{item.backend:10} {item.world_size} processes {point.bytes:>12,} B {point.seconds * 1e3:10.3f} ms "
            f"({point.low_ratio:.2f} to {point.high_ratio:.2f} of it)"
            for item in self.exchanges
            for point in item.points
        ]
        lines += [f"{name:10} {work.in_words}" for name, work in self.work.items()]
        lines += [
            f"{item.backend:10} {item.world_size} processes {item.beside.in_words}"
            for item in self.exchanges
            if item.beside is not None
        ]
        lines += [f"{name:10} not measured: {reason}" for name, reason in self.missing.items()]
        words = f"{self.rates.processor:.2f} in arithmetic, {self.rates.memory:.2f} in bytes from memory"
        slowest = f"the slower of two workers takes {self.rates.slowest:.1%} longer than both on average"
        return "\n".join([*lines, f"of what one core gives alone, each of all at once gives {words}; {slowest}"])

    def as_cluster(self, workers: int) -> str:
        """Return this machine as a cluster in YAML, its link as the quickest backend measured it.

        Raises PlacementError where no all-reduce was measured.
        """
        rings = [item for item in self.exchanges if item.backend in ("hotbench", "gloo")]
        if not rings:
            raise PlacementError("no all-reduce was measured; calibrate hotbench or gloo to describe this machine")
        best = min(rings, key=lambda item: item.points[-1].seconds / item.points[-1].bytes)
        alpha, pace = fit_link(best)
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        return (
            f"name: {self.processor}, {self.cores} cores\n"
            f"hosts:\n  this-machine:\n    cores: {self.cores}\n    workers: {workers}\n    memory_bytes: {memory}\n"
            "    inside: shared-memory\n    outside: shared-memory\n"
            f"links:\n  shared-memory:\n    kind: shared-memory\n    alpha_seconds: {alpha:.3e}\n"
            f'    bytes_per_second: {pace:.4e}\n    processor_share: 1.0\n    source: "{best.source}, {best.backend}"\n'
        )


def fit_link(found: MeasuredExchange) -> tuple[float, float]:
    """Return alpha in seconds and beta in bytes a second of the ring that explains the points best, relative errors."""
    steps = 2 * (found.world_size - 1)
    sizes = np.array([point.bytes for point in found.points], dtype=np.float64)
    seconds = np.array([max(point.seconds, 1e-9) for point in found.points])
    moved = steps / found.world_size * sizes
    rows = np.stack([np.full_like(sizes, steps), moved], axis=1) / seconds[:, None]
    (alpha, pace), *_ = np.linalg.lstsq(rows, np.ones_like(seconds), rcond=None)
    return max(float(alpha), 1e-9), 1.0 / max(float(pace), 1e-15)


def calibration_file() -> Path:
    """Return where calibrations are kept: HOTBENCH_CACHE, or the user's own cache folder."""
    configured = os.environ.get("HOTBENCH_CACHE")
    base = Path(configured) if configured else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return (base if configured else base / "hotbench") / FILE


def load_calibration() -> Calibration | None:
    """Return what was measured on this machine before; None where nothing was, or another machine's."""
    try:
        found = from_plain(Calibration, load_json(calibration_file()))
    except RecordError:
        return None
    same = (found.processor, found.cores) == (processor_name(), usable_cores())
    return found if same and found.format_version == FORMAT_VERSION else None


def merge(new: Calibration) -> Calibration:
    """Return the new calibration with what is kept of other backends and worlds."""
    kept = load_calibration()
    if kept is None:
        return new
    known = {(item.backend, item.world_size): item for item in (*kept.exchanges, *new.exchanges)}
    return replace(
        new,
        exchanges=tuple(known[key] for key in sorted(known)),
        work={**kept.work, **new.work},
    )


def save_calibration(found: Calibration) -> Path:
    """Write the calibration whole or not at all; return its file. Raises RecordError where it cannot be written."""
    path = calibration_file()
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(dump_json(to_plain(found)))
        partial.replace(path)
    except OSError as error:
        raise RecordError(f"cannot write {path}: {error.strerror or error}; set HOTBENCH_CACHE") from error
    finally:
        partial.unlink(missing_ok=True)
    return path
