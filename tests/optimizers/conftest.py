"""No test finds what another one, or an earlier run, decided: decisions are kept in a folder of the test's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from optimizers.fusion import stored


@pytest.fixture(autouse=True)
def decided(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of the decisions."""
    folder = tmp_path / "decided"
    monkeypatch.setattr(stored, "_folder", lambda: folder)
    return folder
