"""`python -m tests.golden`: write every golden file anew from the code as it is."""

from __future__ import annotations

from tests.app.reports.golden import golden_reports
from tests.golden import FOLDER

if __name__ == "__main__":
    for name, text in golden_reports().items():
        path = FOLDER / name
        before = path.read_text(encoding="utf-8") if path.exists() else None
        path.write_text(text, encoding="utf-8")
        print(f"{'unchanged' if before == text else 'rewritten'}  {path}")
