"""What can go wrong between workers."""

from __future__ import annotations

from analyzer.errors import HotbenchError


class TransportError(HotbenchError):
    """Workers that cannot reach, trust or hear each other; the message names the peer where one is at fault."""
