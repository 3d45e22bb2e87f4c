"""One-sided transfers between workers: memory registered in advance, written to without copies or serialization."""

from optimizers.placement.transport.errors import TransportError
from optimizers.placement.transport.transport import Link, Transport, open_transport

__all__ = ["Link", "Transport", "TransportError", "open_transport"]
