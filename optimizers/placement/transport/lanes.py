"""Which transport UCX uses towards a peer, read from what it says of its lanes."""

from __future__ import annotations

import re

# lane[0]:  0:tcp/eth0.0 md[0]  -> md[0]/tcp/sysdev[255] seg 8191 rma_bw#0 am wireup
_LANE = re.compile(r"lane\[\d+\]:\s+(?:\d+:)?(?P<transport>[a-z0-9_]+)/\S+(?P<roles>.*)")
UNKNOWN = "unknown"
_VERBS = ("rc", "dc", "ud")


def transport_of(description: str) -> str:
    """Return the transport that carries puts, by its name in UCX; "unknown" where UCX says nothing of lanes.

    description: what ucp_ep_print_info writes. A lane for RMA counts first, then one whose messages stand in for it.
    """
    lanes = [(match["transport"], match["roles"]) for match in map(_LANE.search, description.splitlines()) if match]
    for role in ("rma_bw", "rma", "am_bw", " am"):
        for transport, roles in lanes:
            if role in roles:
                return transport
    return lanes[0][0] if lanes else UNKNOWN


def is_verbs(transport: str) -> bool:
    """Return whether the transport is InfiniBand's or RoCE's own, so that a card moves the bytes."""
    return transport.split("_")[0] in _VERBS
