"""What the machine is: its device, links and software; each peak measured or cited, with its source."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Peak:
    """A ceiling of the device and where the figure is from ("measured: …" or a citation)."""

    value: float
    unit: str
    source: str


@dataclass(frozen=True, slots=True)
class Device:
    """The device that runs the step. kind is "cpu" or "cuda"."""

    kind: str
    name: str
    memory_bytes: int
    cores: int
    flops_per_second: Peak | None = None
    bytes_per_second: Peak | None = None


@dataclass(frozen=True, slots=True)
class Environment:
    """Versions and settings that a time depends on; two runs compare only where the fingerprints agree."""

    python: str
    torch: str
    numba: str
    cuda: str
    driver: str
    operating_system: str
    cpu: str
    cpu_features: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as plain JSON values."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}
