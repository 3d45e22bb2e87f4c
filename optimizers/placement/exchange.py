"""What one exchange between all workers asks of links and processors, and how long it takes with them to itself.

| exchange of B bytes between n workers | messages in a row | bytes through a link |
|---|---|---|
| all-reduce in a ring | 2 (n - 1) | 2 (n - 1) / n B |
| reduce-scatter, or all-gather | n - 1 | (n - 1) / n B |
| all-reduce by hosts, k workers on each of h | 2 (k - 1) + 2 (h - 1) | 2 (k - 1) / k B inside, 2 (h - 1) / h B |
| to a parameter server, or from it | n - 1 for each message | (n - 1) B at the server |

Source of the ring and of the hierarchy: Thakur, Rabenseifner, Gropp 2005, doi:10.1177/1094342005051521.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from optimizers.placement.backend_costs import HARDWARE_MESSAGE_SECONDS, BackendCost
from optimizers.placement.cluster import Link
from optimizers.placement.seats import Seat, Seating

Uses = tuple[tuple[str, float], ...]
_WHERE = ("inside", "outside")


@dataclass(frozen=True, slots=True)
class Exchange:
    """latency_seconds pass and take nothing; then `seconds` at full speed, with what they use of each resource.

    beside_uses, beside_pace: the same while others compute on these resources, as of simulate.Task.
    """

    latency_seconds: float
    seconds: float
    uses: Uses
    algorithm: str
    beside_uses: Uses = ()
    beside_pace: float = 1.0

    def half(self) -> Exchange:
        """Return an exchange of half as long, at the same rates."""
        return replace(self, latency_seconds=self.latency_seconds / 2, seconds=self.seconds / 2)

    @property
    def alone_seconds(self) -> float:
        """Return how long it takes when nothing else is under way."""
        return self.latency_seconds + self.seconds


def capacities(seating: Seating, processor_rate: float = 1.0, memory_rate: float = 1.0) -> dict[str, float]:
    """Return how much there is of each resource: cores of a host, its memory, and 1 of each link (its bytes, one way).

    processor_rate: what each core gives when all are busy, against one that is busy alone.
    memory_rate: the same of bytes from memory, whose unit is what one core moves alone.
    """
    found = {}
    for seat in seating.seats:
        found[processor(seat)] = seat.host.cores * processor_rate
        found[memory(seat)] = seat.host.cores * memory_rate
        found[inside(seat)] = 1.0
        found[outside(seat)] = 1.0
    return found


def processor(seat: Seat) -> str:
    """Return what a seat's cores are called."""
    return f"{seat.name}: cores"


def memory(seat: Seat) -> str:
    """Return what the memory of a seat's host is called."""
    return f"{seat.name}: memory"


def inside(seat: Seat) -> str:
    """Return what the links inside of a seat's host are called."""
    return f"{seat.name}: {seat.host.inside.name}"


def outside(seat: Seat) -> str:
    """Return what the network of a seat's host is called."""
    return f"{seat.name}: {seat.host.outside.name}"


def all_reduce(size: float, seating: Seating, backend: BackendCost) -> Exchange:
    """Return the all-reduce of `size` bytes on every worker: the quicker of one ring and of a ring of hosts."""
    ring = _ring(size, seating, backend)
    if seating.hosts == 1 or seating.most_on_a_host == 1:
        return ring
    by_hosts = _by_hosts(size, seating, backend)
    return min(ring, by_hosts, key=lambda found: found.alone_seconds)


def scatter_or_gather(size: float, seating: Seating, backend: BackendCost) -> Exchange:
    """Return the reduce-scatter, or the all-gather, of `size` bytes: half of an all-reduce."""
    whole = all_reduce(size, seating, backend)
    return Exchange(whole.latency_seconds / 2, whole.seconds / 2, whole.uses, whole.algorithm)


def through_server(size: float, messages: int, seating: Seating, backend: BackendCost) -> Exchange:
    """Return what it takes until every worker has sent `size` bytes to rank 0, or has fetched as many from it.

    The server takes one message after the other: its software and its links are what the others share.
    """
    home = seating.hosts_of_ranks[0]
    near = seating.hosts_of_ranks.count(home) - 1
    far = seating.world_size - 1 - near
    host = seating.cluster.places[home]
    seat = next(item for item in seating.seats if item.host.name == host.name)
    moved = {
        "software": (near + far) * size / backend.bytes_per_second,
        inside(seat): near * size * _pace(host.inside),
        outside(seat): far * size * max(_pace(host.outside), _to_device(seat)),
    }
    seconds = max(*moved.values(), 1e-12)
    hop = max(host.inside.alpha_seconds if near else 0.0, host.outside.alpha_seconds if far else 0.0)
    # Every message is handled at the server, whoever sent it.
    handled = (near + far) * messages * backend.message_seconds
    uses = [(name, moved[name] / seconds) for name in (inside(seat), outside(seat))]
    spent = backend.processor_share * (2.0 if near else 1.0)
    uses.append((processor(seat), min(spent, float(host.cores))))
    return Exchange(messages * hop + handled, seconds, tuple(uses), "parameter server")


def _ring(size: float, seating: Seating, backend: BackendCost) -> Exchange:
    count = seating.world_size
    if count < 2:
        return Exchange(0.0, 0.0, (), "ring")
    steps = 2 * (count - 1)
    chunk = size / count
    paces = {
        (seat.name, where): pace for seat in seating.seats for where, pace in _paces(seat, seating, backend).items()
    }
    slowest = max(paces.values())
    alpha = max(_alpha(seat) for seat in seating.seats) + message_seconds(_all_links(seating), backend)
    uses: list[tuple[str, float]] = []
    for seat in seating.seats:
        own = {where: paces[seat.name, where] / slowest for where in _WHERE if (seat.name, where) in paces}
        uses += _uses(seat, backend, own)
    return Exchange(steps * alpha, steps * chunk * slowest, tuple(uses), "ring")


def _paces(seat: Seat, seating: Seating, backend: BackendCost) -> dict[str, float]:
    """Return the seconds that a byte of each worker takes on each link of a ring."""
    found = {}
    if seat.workers > seat.crossing:
        found["inside"] = max(_pace(seat.host.inside), software_pace(seat.host.inside, backend))
    if seat.crossing:
        shared = seat.crossing * seating.cluster.oversubscription
        software = software_pace(seat.host.outside, backend)
        found["outside"] = max(_pace(seat.host.outside) * shared, software, _to_device(seat))
    return found


def software_pace(link: Link, backend: BackendCost) -> float:
    """Return the seconds that software takes for a byte: none where hardware carries out one-sided writes."""
    return 0.0 if backend.one_sided and link.processor_share == 0 else 1.0 / backend.bytes_per_second


def message_seconds(links: Iterable[Link], backend: BackendCost) -> float:
    """Return what software adds to a message on the slowest of these links."""
    by_hardware = backend.one_sided and all(link.processor_share == 0 for link in links)
    return min(HARDWARE_MESSAGE_SECONDS, backend.message_seconds) if by_hardware else backend.message_seconds


def _all_links(seating: Seating) -> list[Link]:
    hosts = [seat.host for seat in seating.seats]
    return [host.inside for host in hosts] + [host.outside for host in hosts if seating.hosts > 1]


def _pace(link: Link) -> float:
    return 1.0 / link.bytes_per_second


def _to_device(seat: Seat) -> float:
    return _pace(seat.host.to_device) if seat.host.to_device is not None else 0.0


def _alpha(seat: Seat) -> float:
    """Return the latency of the slowest hop that a seat has in a ring."""
    inner = seat.host.inside.alpha_seconds if seat.workers > seat.crossing else 0.0
    outer = seat.host.outside.alpha_seconds if seat.crossing else 0.0
    extra = seat.host.to_device.alpha_seconds if seat.crossing and seat.host.to_device is not None else 0.0
    return max(inner, outer + extra)


def _uses(seat: Seat, backend: BackendCost, share: Mapping[str, float]) -> Uses:
    """Return what a seat's workers use while the ring runs at full speed."""
    found: list[tuple[str, float]] = []
    spent = 0.0
    if "inside" in share:
        found.append((inside(seat), share["inside"]))
        spent = max(spent, seat.host.inside.processor_share)
    if "outside" in share:
        found.append((outside(seat), share["outside"]))
        spent = max(spent, seat.host.outside.processor_share)
    if spent:
        found.append((processor(seat), seat.workers * max(spent, 0.0) * backend.processor_share))
    return tuple(found)


def _by_hosts(size: float, seating: Seating, backend: BackendCost) -> Exchange:
    """Return reduce-scatter inside of each host, all-reduce of the shards between hosts, all-gather inside."""
    hosts, most = seating.hosts, seating.most_on_a_host
    inner_pace = max(
        max(_pace(link), software_pace(link, backend)) for link in {seat.host.inside for seat in seating.seats}
    )
    software = max(software_pace(seat.host.outside, backend) for seat in seating.seats)
    # All workers of a host send their shards at once: together they move the whole of it through one card.
    outer_pace = max(
        max(_pace(seat.host.outside) for seat in seating.seats) * seating.cluster.oversubscription,
        software / most,
        max(_to_device(seat) for seat in seating.seats) / most,
    )
    inner = 2 * (most - 1) / most * size * inner_pace
    outer = 2 * (hosts - 1) / hosts * size * outer_pace
    added = message_seconds(_all_links(seating), backend)
    alpha_in = max(seat.host.inside.alpha_seconds for seat in seating.seats) + added
    alpha_out = max(_crossing_alpha(seat) for seat in seating.seats) + added
    latency = 2 * (most - 1) * alpha_in + 2 * (hosts - 1) * alpha_out
    seconds = max(inner + outer, 1e-12)
    uses: list[tuple[str, float]] = []
    for seat in seating.seats:
        uses += [(inside(seat), inner / seconds), (outside(seat), outer / seconds)]
        spent = max(seat.host.inside.processor_share, seat.host.outside.processor_share)
        if spent:
            uses.append((processor(seat), seat.workers * spent * backend.processor_share))
    return Exchange(latency, seconds, tuple(uses), "by hosts")


def _crossing_alpha(seat: Seat) -> float:
    extra = seat.host.to_device.alpha_seconds if seat.host.to_device is not None else 0.0
    return seat.host.outside.alpha_seconds + extra
