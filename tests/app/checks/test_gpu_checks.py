"""The checks of a GPU, on machines that are simulated; and on this one, whatever it is."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from app.checks import gpu
from app.checks.check import ABSENT, OK, STATES, WARN, Check, guarded
from app.checks.gpu import CHECKS, examine_gpu
from app.checks.machine import Machine, Outcome, run_module
from tests.app.checks.simulated_machine import (
    H100,
    SimulatedDriver,
    SimulatedNvml,
    answer,
    machine,
    simulated_torch,
)
from tests.cuda.conftest import require_toolchain
from tests.cuda.toolchain import find

ROOT = Path(__file__).parents[3]
CORE_ONLY = ROOT / "tests" / "app" / "worker" / "core_only"

TWO = (H100, H100)
RESTRICTED = "ResmanDebugLevel: 4294967295\nRmProfilingAdminOnly: 1\n"


def look(name: str, examined: Machine) -> Check:
    """Return the finding of one check."""
    return dict(CHECKS)[name](examined)


def folder(tmp_path: Path, **files: str) -> Path:
    """Return a root folder with these files, / written __ in their names."""
    for name, text in files.items():
        path = tmp_path / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def test_a_machine_with_two_gpus_and_everything_on_it_is_well(tmp_path: Path) -> None:
    checks = examine_gpu(machine(SimulatedDriver(devices=TWO), nvml=SimulatedNvml(2), root=tmp_path))
    assert [(check.name, check.state) for check in checks] == [(name, OK) for name, _ in CHECKS]
    assert not any(check.remedy for check in checks)


def test_a_machine_without_a_gpu_lacks_nothing() -> None:
    bare = machine(nvml=SimulatedNvml(fails="NVML Shared Library Not Found"), torch=simulated_torch(None), versions={})
    checks = examine_gpu(replace(bare, find_library=lambda name: None))
    assert {check.state for check in checks} == {ABSENT}


def test_this_machine_is_examined_and_each_warning_has_a_remedy() -> None:
    checks = examine_gpu()
    assert [check.name for check in checks] == [name for name, _ in CHECKS]
    for check in checks:
        assert check.state in STATES and "\n" not in check.found + check.remedy
        assert check.remedy or check.state in (OK, ABSENT)


def test_one_check_that_breaks_leaves_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(examined: Machine) -> Check:
        raise ZeroDivisionError("a\nbug")

    changed = tuple((name, broken if name == "nvml" else check) for name, check in CHECKS)
    monkeypatch.setattr(gpu, "CHECKS", changed)
    checks = {check.name: check for check in examine_gpu(machine(SimulatedDriver()))}
    assert checks["nvml"].found == "could not be checked: ZeroDivisionError: a bug"
    assert checks["cuda driver"].state == checks["ucx"].state == OK


def test_a_finding_that_breaks_says_so() -> None:
    check = guarded("ucx", lambda: 1 / 0)  # type: ignore[arg-type, return-value]
    assert (check.state, check.name) == (WARN, "ucx") and check.remedy


@pytest.mark.parametrize(
    ("code", "words"),
    [(100, "CUDA_VISIBLE_DEVICES"), (802, "fabricmanager"), (803, "restart"), (804, "cuda-compat"), (999, "dmesg")],
)
def test_a_driver_that_does_not_start_is_explained(code: int, words: str) -> None:
    check = look("cuda driver", machine(SimulatedDriver(error=code)))
    assert check.state == WARN and f"error {code}" in check.found and words in check.remedy


def test_a_driver_without_devices_is_explained() -> None:
    check = look("cuda driver", machine(SimulatedDriver(devices=())))
    assert check.state == WARN and "nvidia-smi" in check.remedy


def test_a_gpu_on_the_bus_without_a_driver_is_found(tmp_path: Path) -> None:
    device = "sys__bus__pci__devices__0000:17:00.0__"
    root = folder(tmp_path, **{f"{device}vendor": "0x10de\n", f"{device}class": "0x030200\n"})
    check = look("cuda driver", machine(root=root))
    assert check.state == WARN and "0000:17:00.0" in check.found and "--gpus all" in check.remedy


def test_an_nvidia_device_that_is_no_gpu_is_no_reason_to_warn(tmp_path: Path) -> None:
    device = "sys__bus__pci__devices__0000:18:00.1__"
    root = folder(tmp_path, **{f"{device}vendor": "0x10de\n", f"{device}class": "0x040300\n"})
    assert look("cuda driver", machine(root=root)).state == ABSENT


def test_a_gpu_older_than_our_kernels_is_named() -> None:
    check = look("cuda driver", machine(SimulatedDriver(devices=(H100, ("Tesla V100", (7, 0))))))
    assert check.state == WARN and "Tesla V100" in check.remedy and "sm_80" in check.remedy


@pytest.mark.parametrize(
    ("torch", "cuda", "state", "words"),
    [
        (simulated_torch(None), 13000, WARN, "build for CUDA 13"),
        (simulated_torch("13.0"), 12080, WARN, "update the driver"),
        (simulated_torch("12.8"), 13000, OK, ""),
        (simulated_torch(architectures=("sm_70", "sm_80")), 13000, WARN, "no code for NVIDIA H100"),
        (simulated_torch(architectures=("sm_90a", "compute_90")), 13000, OK, ""),
        (simulated_torch(available=False), 13000, WARN, "torch.cuda.init()"),
    ],
)
def test_pytorchs_build_is_held_against_driver_and_device(torch: object, cuda: int, state: str, words: str) -> None:
    check = look("torch cuda", machine(SimulatedDriver(cuda=cuda), torch=torch))
    assert check.state == state and words in check.remedy and bool(words) == bool(check.remedy)


@pytest.mark.parametrize(
    ("versions", "state", "words"),
    [
        ({}, WARN, "not installed"),
        ({"numba-cuda": "0.30.4", "nvidia-nvvm": "13.2.1"}, WARN, "newer than the driver's CUDA 13.0"),
        ({"numba-cuda": "0.30.4", "nvidia-nvvm": "13.0.88"}, OK, "compiler 13.0.88"),
        ({"numba-cuda": "0.30.4"}, OK, "compiler of the system"),
    ],
)
def test_numba_cuda_is_held_against_the_driver(versions: dict[str, str], state: str, words: str) -> None:
    check = look("numba-cuda", machine(SimulatedDriver(), versions=versions))
    assert check.state == state and words in check.found and (state == OK or "requirements-cuda.txt" in check.remedy)


def test_a_kernel_that_ran_is_told_from_one_that_was_only_compiled() -> None:
    ran = look("cuda kernels", machine(SimulatedDriver()))
    compiled = look("cuda kernels", machine(probes={"app.checks.kernel_probe": answer(ran=False, target="sm_90")}))
    assert "ran on NVIDIA H100" in ran.found and ran.state == compiled.state == OK
    assert "sm_90" in compiled.found and "did not run" in compiled.found


@pytest.mark.parametrize(
    ("outcome", "words"),
    [
        (Outcome(1, "", "Traceback\nArithmeticError: its result is wrong by 3\n"), "wrong by 3"),
        (Outcome(-11, "", ""), "status -11"),
        (Outcome(None, "", ""), "did not end within"),
    ],
)
def test_a_probe_that_fails_crashes_or_hangs_is_told_in_one_line(outcome: Outcome, words: str) -> None:
    check = look("cuda kernels", machine(SimulatedDriver(), probes={"app.checks.kernel_probe": outcome}))
    assert check.state == WARN and words in check.found and "\n" not in check.found and check.remedy


def test_a_probe_that_ends_well_without_an_answer_is_a_failed_check_not_a_crash() -> None:
    examined = machine(SimulatedDriver(), probes={"app.checks.kernel_probe": Outcome(0, "no json\n", "")})
    checks = {check.name: check for check in examine_gpu(examined)}
    assert checks["cuda kernels"].state == WARN and "could not be checked" in checks["cuda kernels"].found


def test_counters_for_administrators_alone_do_not_matter_while_kernels_are_timed(tmp_path: Path) -> None:
    root = folder(tmp_path, proc__driver__nvidia__params=RESTRICTED, proc__self__status="CapEff:\t0000000000000000\n")
    check = look("cupti", machine(SimulatedDriver(), root=root))
    assert check.state == OK and "administrators" in check.found


@pytest.mark.parametrize(
    ("outcome", "parameters", "advised"),
    [
        (answer(kernels=0), RESTRICTED, True),
        (answer(kernels=0), "RmProfilingAdminOnly: 0\n", False),
        (Outcome(0, '{"kernels": 0}\n', "CUPTI_ERROR_INSUFFICIENT_PRIVILEGES"), "", True),
        (Outcome(1, "", "RuntimeError: ERR_NVGPUCTRPERM"), "", True),
        (Outcome(1, "", "RuntimeError: out of memory"), "", False),
    ],
)
def test_a_refused_profiler_is_explained(outcome: Outcome, parameters: str, advised: bool, tmp_path: Path) -> None:
    root = folder(tmp_path, proc__driver__nvidia__params=parameters, proc__self__status="CapEff:\t0\n")
    check = look("cupti", machine(SimulatedDriver(), probes={"app.checks.cupti_probe": outcome}, root=root))
    assert check.state == WARN and check.remedy
    assert ("NVreg_RestrictProfilingToAdminUsers=0" in check.remedy) == advised


@pytest.mark.parametrize(
    ("capabilities", "restricted"), [("0", True), (f"{1 << 21:x}", False), (f"{1 << 38:x}", False)]
)
def test_an_administrator_is_not_restricted(capabilities: str, restricted: bool, tmp_path: Path) -> None:
    status = f"Name:\tpython\nCapEff:\t{capabilities}\n"
    root = folder(tmp_path, proc__driver__nvidia__params=RESTRICTED, proc__self__status=status)
    check = look("cupti", machine(SimulatedDriver(devices=()), root=root))
    assert (check.state == WARN) == restricted


def test_a_refused_reading_is_named_and_nvml_is_closed_again() -> None:
    nvml = SimulatedNvml(refused=("power",))
    check = look("nvml", machine(SimulatedDriver(), nvml=nvml))
    assert check.state == WARN and "refused: power" in check.found and nvml.open == 0


@pytest.mark.parametrize(
    ("error", "words"),
    [
        ("Driver/library version mismatch", "restart"),
        ("NVML Shared Library Not Found", "NVIDIA_DRIVER_CAPABILITIES"),
        ("Insufficient Permissions", "group"),
        ("Unknown Error", "nvidia-smi"),
    ],
)
def test_an_nvml_that_does_not_start_is_explained(error: str, words: str) -> None:
    check = look("nvml", machine(SimulatedDriver(), nvml=SimulatedNvml(fails=error)))
    assert check.state == WARN and error in check.found and words in check.remedy


def test_closed_ways_between_devices_are_counted_and_named() -> None:
    check = look("peer access", machine(SimulatedDriver(devices=(*TWO, H100), closed=((0, 2), (2, 0)))))
    assert check.state == WARN and "2 of 6" in check.found and "0 to 2" in check.found and "topo" in check.remedy
    assert look("peer access", machine(SimulatedDriver())).state == ABSENT


def test_without_pytorch_the_other_checks_go_on() -> None:
    examined = machine(SimulatedDriver())
    modules = {"pynvml": SimulatedNvml()}

    def module(name: str) -> object:
        if name in modules:
            return modules[name]
        raise ModuleNotFoundError(f"No module named {name!r}")

    checks = {check.name: check for check in examine_gpu(replace(examined, module=module))}
    assert checks["torch cuda"].state == WARN and "No module named 'torch'" in checks["torch cuda"].found
    assert checks["nvml"].state == checks["cuda kernels"].state == OK


def test_the_checks_need_no_web_package() -> None:
    program = "from app.checks import cupti_probe, gpu, kernel_probe, ucx_probe; print(len(gpu.CHECKS))"
    environment = os.environ | {"PYTHONPATH": f"{CORE_ONLY}{os.pathsep}{ROOT}"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stdout.strip()) == (0, str(len(CHECKS))), done.stderr


@pytest.mark.cuda_toolchain
def test_a_kernel_is_really_compiled_where_there_is_a_toolkit_but_no_device() -> None:
    require_toolchain()
    done = subprocess.run(
        [str(find()), "-m", "app.checks.kernel_probe"], capture_output=True, text=True, cwd=ROOT, timeout=300
    )
    assert done.returncode == 0, done.stderr
    outcome = Outcome(done.returncode, done.stdout, done.stderr)
    check = look("cuda kernels", machine(probes={"app.checks.kernel_probe": outcome}))
    assert check.state == OK and ("sm_90" in check.found or "ran on" in check.found)


@pytest.mark.skipif(Machine().version("numba-cuda") is not None, reason="numba-cuda is installed here")
def test_a_probe_without_numba_cuda_ends_with_the_remedy_in_its_last_line() -> None:
    outcome = run_module("app.checks.kernel_probe", ())
    assert outcome.status == 1 and "requirements-cuda.txt" in outcome.last_error
