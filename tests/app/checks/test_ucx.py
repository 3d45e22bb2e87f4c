"""Where UCX is looked for, in which order, and what is said of it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from app.checks import machine as machines
from app.checks.check import ABSENT, OK, WARN
from app.checks.machine import Outcome, run_module
from app.checks.ucx import PATH_VARIABLE, candidates, check_ucx
from tests.app.checks.simulated_machine import SimulatedDriver, answer, machine


@pytest.fixture
def wheels(tmp_path: Path) -> dict[str, object]:
    """Return an environment with the libraries of both packages."""
    for folder in ("lib/mpich", "packages/libucx/lib"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "libucp.so.0").touch()
    return {"prefix": tmp_path, "packages": (tmp_path / "packages",)}


def found(version: str = "1.20.1", path: str = "/lib/libucp.so.0", components: tuple[str, ...] = ("tcp",)) -> Outcome:
    return answer(version=version, path=path, components=list(components))


def test_an_explicit_path_comes_first_then_the_systems_then_mpich_then_libucx(wheels: dict[str, object]) -> None:
    examined = machine(environment={PATH_VARIABLE: "/own/libucp.so"}, **wheels)
    origins = [candidate.origin for candidate in candidates(examined)]
    assert origins == [PATH_VARIABLE, "the system", "the package mpich", "the package libucx"]


def test_without_any_the_remedy_names_what_to_install() -> None:
    check = check_ucx(machine(find_library=lambda name: None))
    assert check.state == ABSENT and "mpich" in check.remedy


@pytest.mark.parametrize(
    ("components", "driver", "state", "words"),
    [
        (("tcp", "cuda_cpy", "cuda_ipc"), SimulatedDriver(), OK, "CUDA: yes"),
        (("tcp", "posix"), SimulatedDriver(), WARN, "CUDA: no; tensors of the GPU go through host memory"),
        (("tcp", "posix"), None, OK, "CUDA: no"),
        (("tcp", "ib", "rdmacm"), None, OK, "RDMA hardware: ib, rdmacm"),
        ((), None, OK, "transports: none that it names"),
    ],
)
def test_transports_cuda_and_rdma_are_told(
    components: tuple[str, ...], driver: SimulatedDriver | None, state: str, words: str
) -> None:
    check = check_ucx(machine(driver, probes={"app.checks.ucx_probe": found(components=components)}))
    assert check.state == state and words in check.found and bool(check.remedy) == (state == WARN)


def test_a_cuda_plug_in_that_does_not_load_is_named(tmp_path: Path) -> None:
    (tmp_path / "ucx").mkdir()
    (tmp_path / "ucx" / "libuct_cuda.so.0").touch()
    probe = found(path=str(tmp_path / "libucp.so.0"))
    check = check_ucx(machine(SimulatedDriver(), probes={"app.checks.ucx_probe": probe}))
    assert check.state == WARN and "libuct_cuda.so.0 does not load" in check.remedy


def test_a_library_that_does_not_work_is_named_and_the_next_one_serves(wheels: dict[str, object]) -> None:
    examined = machine(find_library=lambda name: None, environment={PATH_VARIABLE: "/own/libucp.so"}, **wheels)

    def run(module: str, arguments: tuple[str, ...]) -> Outcome:
        return Outcome(-11, "", "") if arguments[0].startswith("/own") else found()

    object.__setattr__(examined, "run", run)
    check = check_ucx(examined)
    assert check.state == WARN and "1.20.1 of the package mpich" in check.found
    assert "/own/libucp.so" in check.found and PATH_VARIABLE in check.remedy


def test_where_no_library_works_the_remedy_names_the_variable_that_chose_it() -> None:
    examined = machine(
        find_library=lambda name: None,
        environment={PATH_VARIABLE: "/own/libucp.so"},
        probes={"app.checks.ucx_probe": Outcome(1, "", "OSError: /own/libucp.so: no such file\n")},
    )
    check = check_ucx(examined)
    assert check.state == WARN and "no such file" in check.found and check.remedy.startswith(f"correct {PATH_VARIABLE}")


def test_the_probe_of_a_file_that_is_no_libucp_ends_with_one_line(tmp_path: Path) -> None:
    (tmp_path / "libucp.so.0").write_text("no library")
    outcome = run_module("app.checks.ucx_probe", (str(tmp_path / "libucp.so.0"),))
    assert outcome.status == 1 and outcome.last_error.startswith("OSError")


def test_a_probe_that_hangs_is_ended_with_all_that_it_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = f"""import os, pathlib, subprocess, time
pathlib.Path({str(tmp_path / "pid")!r}).write_text(str(os.getpid()))
subprocess.Popen(["sleep", "987"])
time.sleep(987)
"""
    (tmp_path / "hanging_probe.py").write_text(program)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(machines, "LIMIT_SECONDS", 2.0)
    outcome = run_module("hanging_probe", ())
    assert outcome.status is None and "did not end within 2 s" in outcome.last_error
    group = int((tmp_path / "pid").read_text())
    for _ in range(100):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    pytest.fail("something of the probe still runs")


COMPONENTS = """
#include <stdint.h>
#include <string.h>
static const char *names[] = {"tcp", "ib", "cuda_cpy"};
static const unsigned domains[] = {1, 0, 1};
static void *list[] = {(void *)&names[0], (void *)&names[1], (void *)&names[2]};
int uct_query_components(void ***components, unsigned *count) { *components = list; *count = 3; return 0; }
int uct_component_query(void *component, uint64_t *attributes) {
    long index = (const char **)component - names;
    if (attributes[0] != 3) return -1;
    strcpy((char *)(attributes + 1), names[index]);
    *(unsigned *)(attributes + 3) = domains[index];
    return 0;
}
"""
VERSION = "void ucp_get_version(unsigned *a, unsigned *b, unsigned *c) { *a = 1; *b = 21; *c = 3; }"


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler to make a stand-in for UCX with")
def test_a_librarys_version_and_the_components_that_have_a_device_are_read(tmp_path: Path) -> None:
    for name, text in (("libucp", VERSION), ("libuct", COMPONENTS)):
        (tmp_path / f"{name}.c").write_text(text)
        command = ["cc", "-shared", "-fPIC", "-o", str(tmp_path / f"{name}.so.0"), str(tmp_path / f"{name}.c")]
        subprocess.run(command, check=True)
    library = str(tmp_path / "libucp.so.0")
    outcome = run_module("app.checks.ucx_probe", (library,))
    assert outcome.status == 0, outcome.errors
    assert json.loads(outcome.output) == {"version": "1.21.3", "path": library, "components": ["tcp", "cuda_cpy"]}
