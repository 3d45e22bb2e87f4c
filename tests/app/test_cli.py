"""The command line's contract: exit codes, one JSON object, one line for an error."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from app import cli, workbench
from app.commands import COMMANDS
from optimizers.pipeline import Outcome, Proposal
from optimizers.plan import Refusal
from tests.app.values import HOSTILE, report_diagnosis

ROOT = Path(__file__).parents[2]


def run(capsys, *arguments):
    """Return (exit code, stdout, stderr) of one command in this process."""
    code = cli.main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return code, out, err


def fails(capsys, *arguments):
    """Return the one line of a command that must fail as bad input does."""
    code, out, err = run(capsys, *arguments)
    assert code == 2 and out == "" and len(err.splitlines()) == 1 and err.startswith("hotbench: error: "), err
    return err


def test_help_lists_what_works_and_nothing_else(capsys):
    code, out, _ = run(capsys, "--help")
    listed = {line.split()[0] for line in out.splitlines() if line.startswith("    ") and line[4] != " "}
    assert code == 0 and listed - {"COMMAND"} == {command.NAME for command in COMMANDS}
    assert {command.NAME for command in COMMANDS} == {
        "profile", "show", "diagnose", "optimize", "compare", "export", "report", "serve", "worker", "workers", "users",
        "doctor", "list", "keep", "publish", "review", "tag", "remove", "jobs",
        "largest-batch",
    }  # fmt: skip


@pytest.mark.parametrize("command", [command.NAME for command in COMMANDS])
def test_every_command_takes_a_store_and_json(capsys, command):
    code, out, _ = run(capsys, command, "--help")
    assert code == 0 and "--store FOLDER-or-URL" in out and "--json" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "the following arguments are required: COMMAND; see `hotbench --help`"),
        (("placement",), "invalid choice: 'placement'"),
        (("--store", "s", "list"), "--store stands before the command; write it behind: hotbench COMMAND --store"),
        (("--json", "list"), "--json stands before the command"),
        (("profile",), "the following arguments are required: FILE.py:FUNCTION; see `hotbench profile --help`"),
        (("profile", "a.py:f", "--steps", "0"), "'0' is no count; give a whole number from 1 on"),
        (("profile", "a.py:f", "--threads", "many"), "'many' is no count"),
        (("profile", "a.py:f", "--device", "tpu"), "invalid choice: 'tpu'"),
        (("show", "latest", "--ops", "-3"), "'-3' is no count"),
        (("optimize", "latest", "--with", "fusion", "--max-error", "-1"), "'-1' is no relative error"),
        (("optimize", "latest", "--with", "fusion", "--max-error", "nan"), "'nan' is no relative error"),
        (("optimize", "latest"), "the following arguments are required: --with"),
    ],
)
def test_arguments_that_do_not_hold_are_one_line(capsys, arguments, message):
    assert message in fails(capsys, *arguments)


def test_show_gives_the_contracts_keys(capsys, stored):
    code, out, err = run(capsys, "show", stored[1].id, "--ops", "2", "--json", "--store", stored[0])
    data = json.loads(out)
    assert code == 0 and err == ""
    assert {"step_seconds", "ops", "kernels", "memory", "busy_seconds", "idle_seconds"} <= set(data)
    assert len(data["ops"]) == 2 and {"name", "count", "self_seconds", "share", "flops", "bytes"} <= set(data["ops"][0])


def test_diagnose_gives_the_contracts_keys(capsys, stored, monkeypatch):
    monkeypatch.setattr(workbench, "diagnose", report_diagnosis)
    code, out, _ = run(capsys, "diagnose", "latest", "--json", "--store", stored[0])
    findings = json.loads(out)["findings"]
    assert code == 0 and len(findings) == 2
    assert {"id", "title", "evidence", "optimizer", "estimate"} <= set(findings[0])
    assert {"low", "mid", "high", "unit"} <= set(findings[0]["estimate"])


def test_people_see_units_and_what_to_type_next(capsys, stored, monkeypatch):
    monkeypatch.setattr(workbench, "diagnose", report_diagnosis)
    code, out, _ = run(capsys, "diagnose", "latest", "--store", stored[0])
    assert code == 0 and "0.230 ms (0.140 ms to 0.290 ms)" in out and "predicted" in out
    assert f"optimize {stored[1].id} --with fusion --store {stored[0]}" in out
    _, out, _ = run(capsys, "show", "latest", "--store", stored[0])
    assert "3.23 MiB" in out and "1.90 ms" in out and "\x1b" not in out


@pytest.mark.parametrize("suffix", ["html", "md"])
@pytest.mark.parametrize("position", [1, 3])
def test_report_writes_the_file_that_it_names(capsys, stored, tmp_path, suffix, position):
    target = tmp_path / f"report.{suffix}"
    code, out, _ = run(capsys, "report", stored[position].id, "-o", target, "--json", "--store", stored[0])
    assert code == 0 and json.loads(out) == {"file": str(target)}
    assert stored[position].id in target.read_text(encoding="utf-8")


def test_report_refuses_another_suffix_before_it_opens_the_store(capsys, tmp_path):
    assert "give a name that ends in .html or .md" in fails(capsys, "report", "latest", "-o", tmp_path / "r.pdf")
    assert not (tmp_path / "default-store").exists()


@pytest.mark.parametrize("command", ["show", "diagnose"])
def test_an_unknown_run_is_one_line_with_those_there_are(capsys, stored, command):
    assert f"no run 'run-none'; the store holds {stored[1].id}" in fails(
        capsys, command, "run-none", "--store", stored[0]
    )


def test_an_experiment_is_no_run(capsys, stored):
    assert "is of kind experiment, not run" in fails(capsys, "show", stored[3].id, "--store", stored[0])


@pytest.mark.parametrize("damage", ["flip", "remove", "manifest"])
def test_a_corrupt_run_folder_is_one_line(capsys, stored, damage):
    folder = Path(stored[0]) / "blobs" / "run" / stored[1].id
    if damage == "flip":
        data = bytearray((folder / "ops.parquet").read_bytes())
        data[len(data) // 2] ^= 1
        (folder / "ops.parquet").write_bytes(data)
    elif damage == "remove":
        (folder / "edges.parquet").unlink()
    else:
        (folder / "manifest.json").write_text("{")
    expected = {"flip": "is corrupt: ops.parquet", "remove": "edges.parquet is missing", "manifest": "cannot be read"}
    assert expected[damage] in fails(capsys, "show", "latest", "--store", stored[0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--with", "magic"), "no optimizer 'magic'; "),
        (("--with", ","), "no optimizer named"),
        (("--with", "fusion", "--set", "fusion.nothing=1"), "fusion has no option 'nothing'; it has: "),
        (("--with", "fusion", "--set", "fusion.min_gain=much"), "write a number"),
        (("--with", "fusion", "--set", "min_gain"), "is not NAME.OPTION=VALUE"),
        (("--with", "fusion", "--set", "swap.x=1"), "'swap' is not among the optimizers in use (fusion)"),
        (("--with", "fusion", "--budget", "60%"), "--budget 60%: fusion works to no memory budget"),
    ],
)
def test_a_request_that_cannot_be_is_one_line(capsys, stored, arguments, message):
    assert message in fails(capsys, "optimize", "latest", *arguments, "--store", stored[0])


def test_a_workload_that_is_gone_is_one_line(capsys, stored):
    line = fails(capsys, "optimize", "latest", "--with", "fusion", "--store", stored[0])
    assert "no file '/models/model.py'" in line


def outcome(stored, **changes):
    proposal = Proposal(report_diagnosis(stored[1]), (), ())
    values = {"candidate": stored[2], "experiment": stored[3], "refusals": ()} | changes
    return Outcome(proposal, **values)


def test_optimize_exits_0_when_the_candidate_is_kept(capsys, stored, monkeypatch):
    monkeypatch.setattr(workbench, "optimize", lambda *_, **__: outcome(stored))
    code, out, _ = run(capsys, "optimize", "latest", "--with", "fusion", "--json", "--store", stored[0])
    data = json.loads(out)
    assert code == 0 and data["kept"] is True and data["verdict"] == "faster"
    assert {
        "candidate", "experiment", "predicted", "speedup", "memory_ratio", "size_ratio", "verdicts", "reason",
        "accuracy",
    } <= set(data)  # fmt: skip
    code, out, _ = run(capsys, "optimize", "latest", "--with", "fusion", "--store", stored[0])
    assert code == 0 and "FASTER" in out
    assert "2.29× (2.25× to 2.33×)" in out and "2.10× (1.40× to 2.60×)" in out
    assert f"export {stored[3].id} -o artifact" in out


def test_optimize_exits_1_when_every_optimizer_refuses(capsys, stored, monkeypatch):
    refused = outcome(stored, candidate=None, experiment=None, refusals=(Refusal("fusion", f"no {HOSTILE}"),))
    monkeypatch.setattr(workbench, "optimize", lambda *_, **__: refused)
    code, out, _ = run(capsys, "optimize", "latest", "--with", "fusion", "--store", stored[0])
    assert code == 1 and "refused fusion: no </script>" in out and "\x1b" not in out
    code, out, _ = run(capsys, "optimize", "latest", "--with", "fusion", "--json", "--store", stored[0])
    assert code == 1 and json.loads(out)["verdict"] == "refused"


def test_compare_exits_1_only_where_the_second_is_slower(capsys, stored):
    code, out, _ = run(capsys, "compare", "latest", stored[1].id, "--json", "--store", stored[0])
    data = json.loads(out)
    assert code == 0 and data["verdict"] == "inconclusive" and data["interleaved"] is False
    assert data["ops_added"] == data["ops_removed"] == data["ops_changed"] == []
    code, out, _ = run(capsys, "compare", "latest", "latest", "--store", stored[0])
    assert code == 0 and "INCONCLUSIVE" in out and "no: from stored times" in out


def test_an_unexpected_error_is_one_line_and_its_traceback_in_a_file(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)

    def fail(_store):
        raise RuntimeError(f"two\nlines {HOSTILE}")

    monkeypatch.setattr("app.doctor.examine", fail)
    line = fails(capsys, "doctor")
    assert "unexpected RuntimeError: two lines" in line and "please report it" in line
    (file,) = tmp_path.glob("hotbench-error-*.txt")
    assert str(file) in line and "Traceback" in file.read_text(encoding="utf-8")


def test_ctrl_c_is_one_line_and_130(capsys, monkeypatch):
    def interrupt(_store):
        raise KeyboardInterrupt

    monkeypatch.setattr("app.doctor.examine", interrupt)
    assert run(capsys, "doctor") == (130, "", "hotbench: interrupted; nothing half-done was kept\n")


def test_a_reader_that_leaves_causes_no_traceback(stored):
    done = subprocess.run(
        f"{sys.executable} -m app show latest --json --store '{stored[0]}' | head -c 1",
        shell=True, cwd=ROOT, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.stdout == "{" and "Traceback" not in done.stderr and "Exception" not in done.stderr
