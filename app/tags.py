"""Which tags an entry may have, wherever they are typed."""

from __future__ import annotations

from collections.abc import Iterable

from analyzer.errors import HotbenchError
from app.units import printable

LONGEST_TAG = 40
MOST_TAGS = 20


def clean_tags(tags: Iterable[str]) -> list[str]:
    """Return the tags without blanks around them, each once. Raises HotbenchError for too long or too many."""
    found = sorted({" ".join(printable(tag).split()) for tag in tags} - {""})
    if len(found) > MOST_TAGS:
        raise HotbenchError(f"{len(found)} tags are too many; keep at most {MOST_TAGS}")
    for tag in found:
        if len(tag) > LONGEST_TAG:
            raise HotbenchError(f"the tag {tag[:20]!r}… is too long; keep it within {LONGEST_TAG} characters")
    return found
