"""A cluster as a user describes it in YAML: hosts, their GPUs, and the links between them, each with its source."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from optimizers.placement.errors import PlacementError

LINK_KINDS = ("shared-memory", "nvlink", "pcie", "network")
MOST_BYTES = 1 << 20
"""A description is text by hand: a larger file is something else."""


@dataclass(frozen=True, slots=True)
class Link:
    """One kind of link: a message of n bytes takes alpha_seconds + n / bytes_per_second, each way at once.

    processor_share: share of one core that either end spends while bytes move; 0 where hardware does it.
    registered: whether its memory is registered in advance (verbs, NVLink).
    source: "measured: …", or whose figure it is.
    """

    name: str
    kind: str
    alpha_seconds: float
    bytes_per_second: float
    source: str
    processor_share: float = 0.0


@dataclass(frozen=True, slots=True)
class Host:
    """`count` hosts alike. workers: processes that each can train (its GPUs, or its cores where it has none).

    cores: that they share.    flops_per_second: of a worker; None: as quick as where the run was captured.
    inside: the link between two workers of it.    outside: the link of its network card, which all share.
    to_device: the link between a GPU and its host, None where there is none.
    """

    name: str
    count: int
    workers: int
    cores: int
    gpus: int
    memory_bytes: int
    inside: Link
    outside: Link
    to_device: Link | None = None
    flops_per_second: float | None = None
    flops_source: str = ""


@dataclass(frozen=True, slots=True)
class Cluster:
    """Hosts behind one switch. oversubscription: how much slower all hosts together send than each on its own."""

    name: str
    hosts: tuple[Host, ...]
    oversubscription: float = 1.0
    file: str = ""

    @property
    def workers(self) -> int:
        """Return how many workers it has room for."""
        return sum(host.count * host.workers for host in self.hosts)

    @property
    def places(self) -> tuple[Host, ...]:
        """Return its hosts one by one."""
        return tuple(host for host in self.hosts for _ in range(host.count))

    @property
    def links(self) -> tuple[Link, ...]:
        """Return every link, each once."""
        found = {link.name: link for host in self.hosts for link in (host.inside, host.outside, host.to_device) if link}
        return tuple(found.values())

    def grown(self, workers: int) -> Cluster:
        """Return the cluster with as many more of its last hosts as so many workers need."""
        lacking = workers - self.workers
        if lacking <= 0:
            return self
        last = self.hosts[-1]
        more = replace(last, count=last.count + math.ceil(lacking / last.workers))
        return replace(self, hosts=(*self.hosts[:-1], more), name=f"{self.name}, grown to {workers} workers")


def load_cluster(path: Path) -> Cluster:
    """Return the cluster that a YAML file describes.

    Raises PlacementError with one line that names the file, the key, the value and what to do.
    """
    try:
        import yaml
    except ImportError as error:
        raise PlacementError(
            "clusters are described in YAML, and PyYAML is not installed: pip install PyYAML"
        ) from error
    try:
        if path.stat().st_size > MOST_BYTES:
            raise PlacementError(f"{path} is {path.stat().st_size} bytes long; a cluster takes a few hundred")
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        what = getattr(error, "strerror", None) or "it is no text"
        raise PlacementError(f"cannot read cluster {str(path)!r}: {what}; give the path of a YAML file") from error
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}" if mark else ""
        raise PlacementError(
            f"{path.name}{line}: this is no YAML ({getattr(error, 'problem', None) or 'too deep'}); mend the line"
        ) from error
    return read_cluster(data, path.name)


def read_cluster(data: Any, file: str) -> Cluster:
    """Return the cluster of plain data, as YAML gives it. Raises PlacementError, naming the key and its value."""
    top = _Table(file, "", data)
    links = {name: _link(table) for name, table in top.tables("links").items()}
    hosts = tuple(_host(name, table, links) for name, table in top.tables("hosts").items())
    if not hosts:
        raise top.error("hosts", {}, "describe at least one host")
    name = top.text("name", Path(file).stem)
    oversubscription = top.number("oversubscription", 1.0, least=1.0)
    top.nothing_else()
    return Cluster(name, hosts, oversubscription, file)


def _link(table: _Table) -> Link:
    link = Link(
        name=table.name,
        kind=table.choice("kind", LINK_KINDS),
        alpha_seconds=table.number("alpha_seconds", least=0.0, most=10.0),
        bytes_per_second=table.number("bytes_per_second", least=1.0, most=1e15),
        source=table.text("source"),
        processor_share=table.number("processor_share", 0.0, least=0.0, most=1.0),
    )
    table.nothing_else()
    return link


def _host(name: str, table: _Table, links: Mapping[str, Link]) -> Host:
    gpus = table.whole("gpus", 0, least=0)
    cores = table.whole("cores", least=1)
    workers = table.whole("workers", gpus or cores, least=1)
    quick = table.has("flops_per_second")
    host = Host(
        name=name,
        count=table.whole("count", 1, least=1),
        workers=workers,
        cores=cores,
        gpus=gpus,
        memory_bytes=table.whole("memory_bytes", least=1, most=1 << 60),
        inside=table.link("inside", links),
        outside=table.link("outside", links),
        to_device=table.link("to_device", links) if table.has("to_device") else None,
        flops_per_second=table.number("flops_per_second", least=1.0, most=1e21) if quick else None,
        flops_source=table.text("flops_source") if quick else "",
    )
    if gpus and workers > gpus:
        raise table.error("workers", workers, f"a host with {gpus} GPUs has at most as many workers")
    table.nothing_else()
    return host


class _Table:
    """One mapping of the file; every question that it cannot answer is an error with file, key and value."""

    def __init__(self, file: str, where: str, data: Any) -> None:
        self.file, self.where, self.name = file, where, where.rpartition(".")[2]
        if not isinstance(data, dict):
            raise PlacementError(f"{file}: {where or 'the file'} is {_short(data)}; write a mapping of keys to values")
        self.data: dict[Any, Any] = data
        self.asked: set[str] = set()

    def error(self, key: str, value: Any, what: str) -> PlacementError:
        place = f"{self.where}.{key}" if self.where else key
        return PlacementError(f"{self.file}: {place} is {_short(value)}; {what}")

    def has(self, key: str) -> bool:
        return key in self.data

    def _take(self, key: str, default: Any, what: str) -> Any:
        self.asked.add(key)
        if key not in self.data:
            if default is None:
                place = f"{self.where}.{key}" if self.where else key
                raise PlacementError(f"{self.file}: {place} is missing; {what}")
            return default
        return self.data[key]

    def tables(self, key: str) -> dict[str, _Table]:
        found = self._take(key, None, "write a mapping of names to their description")
        place = f"{self.where}.{key}" if self.where else key
        if not isinstance(found, dict):
            raise self.error(key, found, "write a mapping of names to their description")
        return {str(name): _Table(self.file, f"{place}.{name}", data) for name, data in found.items()}

    def number(self, key: str, default: float | None = None, *, least: float, most: float = math.inf) -> float:
        what = f"write a number from {least:g}" + (f" to {most:g}" if most < math.inf else " on")
        found = self._take(key, default, what)
        # YAML 1.1 reads 1e9 as text: the exponent needs a sign there, which nobody expects.
        if isinstance(found, str):
            try:
                found = float(found)
            except ValueError:
                raise self.error(key, found, what) from None
        if isinstance(found, bool) or not isinstance(found, int | float) or not least <= found <= most:
            raise self.error(key, found, what)
        if not math.isfinite(found):
            raise self.error(key, found, what)
        return float(found)

    def whole(self, key: str, default: int | None = None, *, least: int, most: int = 1 << 20) -> int:
        what = f"write a whole number from {least} to {most}"
        found = self._take(key, default, what)
        if isinstance(found, str):
            try:
                found = int(float(found)) if float(found).is_integer() else found
            except (ValueError, OverflowError):
                raise self.error(key, found, what) from None
        if isinstance(found, bool) or not isinstance(found, int) or not least <= found <= most:
            raise self.error(key, found, what)
        return found

    def text(self, key: str, default: str | None = None) -> str:
        found = self._take(key, default, "write a text")
        if not isinstance(found, str) or not found.strip():
            raise self.error(
                key, found, "write a text" + ("; say who measured or published it" if key.endswith("source") else "")
            )
        return " ".join(found.split())

    def choice(self, key: str, choices: Sequence[str]) -> str:
        found = self._take(key, None, f"choose one of {', '.join(choices)}")
        if found not in choices:
            raise self.error(key, found, f"choose one of {', '.join(choices)}")
        return str(found)

    def link(self, key: str, links: Mapping[str, Link]) -> Link:
        known = ", ".join(links) or "none"
        found = self._take(key, None, f"name one of the links: {known}")
        if not isinstance(found, str) or found not in links:
            raise self.error(key, found, f"name one of the links: {known}")
        return links[found]

    def nothing_else(self) -> None:
        """Raise PlacementError for a key that means nothing: a slip of the pen must not pass for a setting."""
        strange = next((key for key in self.data if key not in self.asked), None)
        if strange is not None:
            raise self.error(
                str(strange)[:40], self.data[strange], f"no such key; known: {', '.join(sorted(self.asked))}"
            )


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:59]}…"
