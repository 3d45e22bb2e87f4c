"""Ids made of content: the same value has the same id wherever it was made."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from analyzer.record import to_plain


def content_id(kind: str, content: Any) -> str:
    """Return `kind-` and 12 hex digits of the SHA-256 of `content` as canonical JSON."""
    text = json.dumps(to_plain(content), sort_keys=True)
    return f"{kind}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
