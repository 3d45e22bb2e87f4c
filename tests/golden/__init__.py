"""Files that reports must equal, byte for byte. `python -m tests.golden` rewrites them: read the difference."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent
