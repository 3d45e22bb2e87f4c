"""What names a workload: kept with every run, and read without loading torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class WorkloadReference:
    """How to build a workload again: file, function, and the hashes that prove it is the same one.

    path is absolute; source_hash is of the file's bytes; state_hash of the model's initial state.
    """

    path: str
    function: str
    source_hash: str
    state_hash: str
    seed: int = 0
    device: str = "cpu"

    @property
    def name(self) -> str:
        """Return `file.py:function`."""
        return f"{Path(self.path).name}:{self.function}"

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as plain JSON values."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> WorkloadReference:
        """Return the reference that `as_dict` wrote."""
        return cls(**fields)
