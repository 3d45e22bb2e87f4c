"""Which ranks sit on which hosts, and what that makes of a ring through all of them."""

from __future__ import annotations

from dataclasses import dataclass

from optimizers.placement.cluster import Cluster, Host, Link
from optimizers.placement.errors import PlacementError

ORDERS = ("packed", "spread")


@dataclass(frozen=True, slots=True)
class Seat:
    """`hosts` hosts alike, with `workers` workers on each.

    crossing: neighbours in rank order, of those on one host, that sit on another host.
    """

    host: Host
    hosts: int
    workers: int
    crossing: int

    @property
    def name(self) -> str:
        """Return what the seat is called among the resources and lanes: "box, 2 workers", "16 x h100, 8 workers"."""
        hosts = f"{self.hosts} x {self.host.name}" if self.hosts > 1 else self.host.name
        return f"{hosts}, {self.workers} {'worker' if self.workers == 1 else 'workers'}"


@dataclass(frozen=True, slots=True)
class Seating:
    """Every rank of a world in its place. hosts_of_ranks: the index of each rank's host."""

    cluster: Cluster
    order: str
    hosts_of_ranks: tuple[int, ...]
    seats: tuple[Seat, ...]

    @property
    def world_size(self) -> int:
        """Return how many ranks there are."""
        return len(self.hosts_of_ranks)

    @property
    def hosts(self) -> int:
        """Return how many hosts have a rank."""
        return sum(seat.hosts for seat in self.seats)

    @property
    def most_on_a_host(self) -> int:
        """Return the most ranks that share a host."""
        return max(seat.workers for seat in self.seats)

    def link(self, left: int, right: int) -> Link:
        """Return the link between two ranks; between hosts, the slower of their two."""
        places = self.cluster.places
        first, second = self.hosts_of_ranks[left], self.hosts_of_ranks[right]
        if first == second:
            return places[first].inside
        return min(places[first].outside, places[second].outside, key=lambda link: link.bytes_per_second)


def seat(cluster: Cluster, world_size: int, order: str = "packed") -> Seating:
    """Return the ranks on their hosts: "packed" fills one host after the other, "spread" deals them out in turn.

    Raises PlacementError where the cluster has no room for them, or the order is unknown.
    """
    if order not in ORDERS:
        raise PlacementError(f"order {order!r} is not known; choose one of {', '.join(ORDERS)}")
    if not 1 <= world_size <= cluster.workers:
        raise PlacementError(
            f"a world of {world_size} does not fit cluster {cluster.name!r}; choose 1 to {cluster.workers} workers"
        )
    places = cluster.places
    if order == "packed":
        filled = [index for index, host in enumerate(places) for _ in range(host.workers)]
    else:
        most = max(host.workers for host in places)
        filled = [index for turn in range(most) for index, host in enumerate(places) if turn < host.workers]
    ranks = tuple(filled[:world_size])
    return Seating(cluster, order, ranks, _seats(places, ranks))


def _seats(places: tuple[Host, ...], ranks: tuple[int, ...]) -> tuple[Seat, ...]:
    workers: dict[int, int] = {}
    crossing: dict[int, int] = {}
    for rank, index in enumerate(ranks):
        workers[index] = workers.get(index, 0) + 1
        crossing[index] = crossing.get(index, 0) + (ranks[(rank + 1) % len(ranks)] != index)
    kinds: dict[tuple[str, int, int], list[int]] = {}
    for index, count in workers.items():
        kinds.setdefault((places[index].name, count, crossing[index]), []).append(index)
    return tuple(Seat(places[found[0]], len(found), count, crossed) for (_, count, crossed), found in kinds.items())
