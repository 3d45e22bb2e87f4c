"""Network interfaces by name: a job listens on the one that it is told, and on no other."""

from __future__ import annotations

import fcntl
import os
import socket
import struct
from typing import Any

from optimizers.placement.transport.errors import TransportError

VARIABLE = "HOTBENCH_INTERFACE"
_GET_ADDRESS = 0x8915  # SIOCGIFADDR of linux/sockios.h
_REQUEST_BYTES = 256
_ANY_PORT = 9  # of a datagram socket that sends nothing: connecting it only asks for the route


def addresses() -> dict[str, str]:
    """Return the IPv4 address of each interface that has one, by the interface's name."""
    found = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            request = struct.pack(f"{_REQUEST_BYTES}s", name.encode()[:15])
            try:
                answer = fcntl.ioctl(probe.fileno(), _GET_ADDRESS, request)
            except OSError:  # an interface without an address
                continue
            found[name] = socket.inet_ntoa(answer[20:24])
    return found


def choose(name: str | None, store: Any) -> tuple[str, str]:
    """Return the interface to use and its address.

    name: what the user asked for; without it HOTBENCH_INTERFACE, or the interface that leads to the store's host.
    Raises TransportError, naming the interfaces that there are, where it has no address.
    """
    found = addresses()
    wanted = name or os.environ.get(VARIABLE) or _towards(_host_of(store), found)
    if wanted not in found:
        known = ", ".join(found) or "none"
        raise TransportError(f"network interface {wanted!r} has no IPv4 address here; name one that has: {known}")
    return wanted, found[wanted]


def _host_of(store: Any) -> str:
    while hasattr(store, "underlying_store"):
        store = store.underlying_store
    return str(getattr(store, "host", "127.0.0.1"))


def _towards(host: str, found: dict[str, str]) -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((host, _ANY_PORT))
            own = probe.getsockname()[0]
        except OSError as error:
            raise TransportError(f"the store's host {host!r} is not reached: {error}; name an interface") from None
    if own.startswith("127."):
        return "lo"
    return next((name for name, address in found.items() if address == own), own)
