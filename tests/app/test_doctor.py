"""The doctor tells what is there, and how to mend what is not."""

import json
import sys

import pytest

from app import cli, doctor


def by_name(store):
    return {check.name: check for check in doctor.examine(str(store))}


def test_this_machine_is_well(tmp_path):
    checks = doctor.examine(str(tmp_path / "store"))
    assert doctor.healthy(checks)
    assert [check.name for check in checks] == [
        "python", "torch", "numba", "processor", "threads", "openmp", "kernel cache", "store", "disk",
        "cuda driver", "torch cuda", "numba-cuda", "cuda kernels", "cupti", "nvml", "peer access", "ucx",
    ]  # fmt: skip
    assert all(check.remedy for check in checks if check.state in (doctor.WARN, doctor.FAIL))


def test_a_store_that_cannot_be_is_a_failure_with_a_remedy(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert cli.main(["doctor", "--json", "--store", str(tmp_path / "file")]) == 1
    data = json.loads(capsys.readouterr().out)
    (failed,) = [check for check in data["checks"] if check["state"] == "fail"]
    assert (
        data["healthy"] is False and failed["name"] == "store" and "is a file" in failed["found"] and failed["remedy"]
    )


def test_a_cache_that_cannot_be_written_is_a_failure(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HOTBENCH_CACHE", str(tmp_path / "file" / "cache"))
    check = by_name(tmp_path / "store")["kernel cache"]
    assert check.state == doctor.FAIL and "HOTBENCH_CACHE" in check.remedy


@pytest.mark.parametrize(("version", "state"), [((3, 10), "fail"), ((3, 12), "ok"), ((3, 13), "fail")])
def test_only_supported_pythons_pass(monkeypatch, tmp_path, version, state):
    monkeypatch.setattr(sys, "version_info", (*version, 0))
    assert doctor._python().state == state


@pytest.mark.parametrize(
    ("version", "state"), [("2.13.0+cpu", "ok"), ("2.11.1", "ok"), ("2.10.9", "warn"), ("2.14.0", "warn")]
)
def test_versions_are_held_against_their_range(monkeypatch, version, state):
    monkeypatch.setattr("importlib.metadata.version", lambda name: version)
    assert doctor._package("torch", "2.11", "2.14").state == state


def test_a_missing_package_says_how_to_install_it():
    check = doctor._package("no-such-package", "1", "2")
    assert (check.state, check.remedy) == ("fail", "pip install 'no-such-package>=1,<2'")


def test_people_see_a_sign_and_a_word(tmp_path, capsys):
    assert cli.main(["doctor", "--store", str(tmp_path)]) == 0
    assert "✓ ok" in capsys.readouterr().out
