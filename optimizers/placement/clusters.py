"""The clusters that a user can name: this machine, a YAML file, or one of a folder of them."""

from __future__ import annotations

import os
from pathlib import Path

from optimizers.placement.cluster import Cluster, load_cluster
from optimizers.placement.errors import PlacementError
from optimizers.placement.this_machine import NAME as THIS_MACHINE
from optimizers.placement.this_machine import this_machine

SUFFIXES = (".yaml", ".yml")
_KNOWN = Path(__file__).resolve().parent / "known_clusters"


def cluster_folder() -> Path:
    """Return the folder of clusters with a name: HOTBENCH_CLUSTERS, or the one that comes with this package."""
    configured = os.environ.get("HOTBENCH_CLUSTERS")
    return Path(configured) if configured else _KNOWN


def known_clusters() -> tuple[str, ...]:
    """Return the names that find_cluster knows, this machine first."""
    folder = cluster_folder()
    try:
        files = sorted(path.stem for path in folder.iterdir() if path.suffix in SUFFIXES)
    except OSError:
        files = []
    return (THIS_MACHINE, *files)


def find_cluster(text: str, workers: int) -> Cluster:
    """Return this machine (with room for so many workers), or the cluster of a name or of a path to a YAML file.

    A path is looked for in the working directory; one without a folder then also among the clusters with a name.
    Raises PlacementError for a name that is not known, or a file that describes no cluster.
    """
    wanted = text.strip()
    if wanted in ("", THIS_MACHINE):
        return this_machine(workers)
    path = Path(wanted).expanduser()
    named = [cluster_folder() / name for name in (wanted, *(f"{wanted}{suffix}" for suffix in SUFFIXES))]
    if path.suffix in SUFFIXES:
        if not path.is_file() and path.name == wanted and named[0].is_file():
            return load_cluster(named[0])
        return load_cluster(path.absolute())
    for file in named[1:]:
        if path.name == wanted and file.is_file():
            return load_cluster(file)
    raise PlacementError(
        f"no cluster {wanted!r} in {cluster_folder()}; name one of {', '.join(known_clusters())}, "
        "or give the path of a .yaml file"
    )
