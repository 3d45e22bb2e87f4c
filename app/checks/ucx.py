"""UCX, which moves tensors between processes and machines: where it is, what it can use, and CUDA among that or not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from app.checks.check import ABSENT, OK, WARN, Check
from app.checks.driver import read_driver
from app.checks.machine import Machine

PATH_VARIABLE = "HOTBENCH_LIBUCP"
_INSTALL = "install the system's UCX (MOFED, HPC-X, libucx0), or pip install mpich, which brings one"
_RDMA = ("ib", "rdmacm", "efa", "gga")


@dataclass(frozen=True, slots=True)
class Candidate:
    """One libucp that may be there: who brings it, and its name or path."""

    origin: str
    library: str


def candidates(machine: Machine) -> Iterator[Candidate]:
    """Give each libucp that is there, in the order in which it is preferred."""
    explicit = machine.environment.get(PATH_VARIABLE)
    if explicit:
        yield Candidate(PATH_VARIABLE, explicit)
    system = machine.find_library("ucp")
    if system:
        yield Candidate("the system", system)
    # mpich's has InfiniBand in it and needs no CUDA; libucx's has CUDA but no InfiniBand.
    wheels = [("the package mpich", machine.prefix / "lib" / "mpich")]
    wheels += [("the package libucx", folder / "libucx" / "lib") for folder in machine.packages]
    for origin, folder in wheels:
        library = folder / "libucp.so.0"
        if library.is_file():
            yield Candidate(origin, str(library))


def check_ucx(machine: Machine) -> Check:
    """Return which UCX would be used, its version, its transports, and whether it can move GPU memory."""
    failures: list[str] = []
    for candidate in candidates(machine):
        outcome = machine.run("app.checks.ucx_probe", (candidate.library,))
        if outcome.status == 0:
            return _described(machine, candidate, json.loads(outcome.output.splitlines()[-1]), failures)
        failures.append(f"{candidate.library} of {candidate.origin} does not work: {outcome.last_error}")
    if failures:
        remedy = f"correct {PATH_VARIABLE}, or {_INSTALL}" if PATH_VARIABLE in machine.environment else _INSTALL
        return Check("ucx", WARN, "; ".join(failures), remedy)
    return Check("ucx", ABSENT, "not installed; only transfers between processes need it", _INSTALL)


def _described(machine: Machine, used: Candidate, probe: dict[str, object], failures: list[str]) -> Check:
    components = probe["components"]
    assert isinstance(components, list)
    plugin = _cuda_plugin(str(probe["path"]))
    has_cuda = any(str(name).startswith(("cuda", "gdr")) for name in components)
    transports = ", ".join(map(str, components)) or "none that it names"
    fast = [name for name in components if name in _RDMA]
    parts = [f"{probe['version']} of {used.origin}, transports: {transports}"]
    parts.append("RDMA hardware: " + (", ".join(fast) if fast else "none"))
    parts.append("CUDA: " + ("yes" if has_cuda else f"plug-in {plugin.name} is there" if plugin else "no"))
    found = "; ".join([*parts, *failures])
    if failures:
        return Check("ucx", WARN, found, f"correct {PATH_VARIABLE} or remove the library that does not work")
    if has_cuda or not read_driver(machine).devices:
        return Check("ucx", OK, found)
    if plugin:
        return Check("ucx", WARN, found, f"{plugin.name} does not load: run ldd on it; it needs this machine's libcuda")
    remedy = f"install a UCX with CUDA (pip install libucx-cu13 or libucx-cu12) or set {PATH_VARIABLE} to one"
    return Check("ucx", WARN, f"{found}; tensors of the GPU go through host memory", remedy)


def _cuda_plugin(library: str) -> Path | None:
    folder = Path(library).parent
    return next(iter(sorted((folder / "ucx").glob("libuct_cuda*.so*"))), None)
