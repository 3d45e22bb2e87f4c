from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from analyzer.launch import Launch, process_environment
from analyzer.launcher import CANDIDATE, Variant, VariantError


def start(entry: str, timeout_seconds: float = 60.0, **argument: object) -> Variant:
    launch = Launch("trial", f"tests.analyzer.variants:{entry}", dict(argument), 1, (("HOTBENCH_TEST", "seen"),))
    return Variant(launch, CANDIDATE, timeout_seconds=timeout_seconds)


def build(variant: Variant) -> dict[str, object]:
    launch = variant.launch
    return variant.ask("build", entry=launch.entry, argument=launch.argument, threads=launch.threads)


@pytest.fixture(scope="module")
def affine() -> Iterator[Variant]:
    with start("affine") as variant:
        build(variant)
        yield variant


def processes_of_group(group: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == group and fields[0] != "Z":
            found.append(int(path.parent.name))
    return found


def test_what_user_code_prints_does_not_disturb_the_protocol(affine: Variant) -> None:
    assert build(affine)["training"] is False


def test_parameters_and_buffers_are_counted(affine: Variant) -> None:
    assert build(affine)["state_bytes"] == (7 * 5 + 5 + 300 * 300) * 4


def test_a_turn_gives_as_many_samples_as_asked_for(affine: Variant) -> None:
    affine.ask("settle", seconds=0.0, least=2)
    samples = affine.ask("block", count=7, repeats=3)["samples"]
    assert len(samples) == 7
    assert all(sample["seconds"] > 0 for sample in samples)


def test_an_unknown_request_is_an_error_and_the_variant_lives_on(affine: Variant) -> None:
    with pytest.raises(VariantError, match="candidate 'trial' failed: KeyError: 'dance'"):
        affine.ask("dance")
    assert build(affine)["training"] is False


def test_the_launch_decides_threads_and_variables() -> None:
    launch = Launch("trial", "m:f", {}, 3, (("OMP_NUM_THREADS", "2"), ("OWN", "x")))
    found = process_environment(launch)
    assert (found["OMP_NUM_THREADS"], found["NUMBA_NUM_THREADS"], found["OWN"]) == ("2", "3", "x")


@pytest.mark.parametrize(
    ("entry", "argument", "message"),
    [
        ("misbehaving", {"how": "refuses to build"}, "failed: codebook.bin differs from its hash"),
        ("no_workload", {}, "returned a int; return a Workload"),
        ("absent", {}, "cannot find tests.analyzer.variants:absent"),
    ],
)
def test_an_entry_that_gives_no_workload_says_why(affine: Variant, entry: str, argument: object, message: str) -> None:
    with pytest.raises(VariantError, match=message):
        affine.ask("build", entry=f"tests.analyzer.variants:{entry}", argument=argument, threads=1)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("raises", "candidate 'trial' failed: the workload's step raised ValueError: no such layer"),
        ("exits", "candidate 'trial' ended with exit code 3: last words"),
        ("is killed", "candidate 'trial' was killed by SIGKILL"),
    ],
)
def test_a_step_that_goes_wrong_is_one_line(how: str, message: str) -> None:
    with start("misbehaving", how=how) as variant:
        build(variant)
        with pytest.raises(VariantError, match=message) as caught:
            variant.ask("settle", seconds=0.0, least=1)
        assert "\n" not in str(caught.value)
        assert caught.value.role == CANDIDATE


def test_a_variant_that_hangs_is_ended_with_its_children() -> None:
    with start("misbehaving", how="hangs") as variant:
        build(variant)
        variant.timeout_seconds = 1.0
        with pytest.raises(VariantError, match="gave no answer for 1 s"):
            variant.ask("settle", seconds=0.0, least=1)
        group = variant.pid
    assert processes_of_group(group) == []


def test_an_interrupt_leaves_no_process_behind() -> None:
    with pytest.raises(KeyboardInterrupt), start("affine") as variant:
        group = variant.pid
        raise KeyboardInterrupt
    assert processes_of_group(group) == []


def test_a_variant_dies_with_its_parent() -> None:
    reader, writer = os.pipe()
    parent = os.fork()
    if parent == 0:
        variant = start("affine")
        build(variant)
        os.write(writer, str(variant.pid).encode())
        time.sleep(600)
        os._exit(0)
    group = int(os.read(reader, 64))
    os.close(reader)
    os.close(writer)
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    deadline = time.monotonic() + 30
    while processes_of_group(group) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert processes_of_group(group) == []
