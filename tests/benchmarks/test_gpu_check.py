from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import gpu_check
from benchmarks.gpu.findings import FAILED, PASSED, SKIPPED
from benchmarks.gpu.part import Part, list_tasks
from benchmarks.gpu.parts import BUDGET_SECONDS, PARTS
from tests.cuda.cases import FORMS

ROOT = Path(__file__).parents[2]
CORE_ONLY = ROOT / "tests" / "app" / "worker" / "core_only"
NO_GPU = "no CUDA driver answers"

without_gpu = pytest.mark.skipif(not gpu_check.why_no_gpu(), reason="this machine has a GPU")


def stand_in(name: str, *, timed: bool = False) -> Part:
    return Part(name, f"the part {name}", f"tests.benchmarks.gpu_stand_in:{name}", 30, timed)


def result_in(folder: Path) -> dict[str, object]:
    return json.loads((folder / "gpu-check.json").read_text())


@without_gpu
def test_without_gpu_every_part_is_skipped_nothing_heavy_is_imported_and_it_exits_0(tmp_path: Path) -> None:
    program = f"""
import sys
from benchmarks import gpu_check
code = gpu_check.main(["-o", {str(tmp_path)!r}])
heavy = {{"torch", "numpy", "numba", "pandas", "scipy", "pytest"}} & set(sys.modules)
sys.exit(f"imported {{heavy}}" if heavy else code)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("gpu-check: no GPU here: ") and len(done.stdout.splitlines()) == 1
    result = result_in(tmp_path)
    assert [part["name"] for part in result["parts"]] == [part.name for part in PARTS]
    assert {part["state"] for part in result["parts"]} == {SKIPPED}
    assert "No GPU: " in (tmp_path / "gpu-check.md").read_text()


@without_gpu
def test_without_gpu_nothing_is_committed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu_check.main(["-o", str(tmp_path), "--commit"]) == 0
    assert "nothing is committed without a GPU" in capsys.readouterr().err


@pytest.fixture
def with_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretend that the driver sees a device; the parts are stand-ins."""
    monkeypatch.setattr(gpu_check, "why_no_gpu", lambda: "")


@pytest.mark.usefixtures("with_gpu")
def test_a_failed_part_makes_exit_code_1_and_the_others_are_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpu_check, "PARTS", (stand_in("every_end"), stand_in("two_good", timed=True)))
    assert gpu_check.main(["-o", str(tmp_path)]) == 1
    parts = {part["name"]: part for part in result_in(tmp_path)["parts"]}
    assert (parts["every_end"]["state"], parts["two_good"]["state"]) == (FAILED, PASSED)
    assert "reached" in capsys.readouterr().out
    assert "Traceback" in (tmp_path / "gpu-check.log").read_text()
    assert "| wrong | failed | ValueError: element 7 is 1.0 instead of 2.0 |" in (tmp_path / "gpu-check.md").read_text()


@pytest.mark.usefixtures("with_gpu")
def test_the_result_holds_no_path_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_check, "PARTS", (stand_in("two_good"),))
    assert gpu_check.main(["-o", str(tmp_path)]) == 0
    text = (tmp_path / "gpu-check.json").read_text()
    assert str(tmp_path) not in text and str(ROOT) not in text


def test_an_unknown_part_is_named_with_those_that_exist(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu_check.main(["-o", str(tmp_path), "--part", "layernorms"]) == 2
    assert "no part 'layernorms'; there are: environment" in capsys.readouterr().err


def test_a_part_alone_cannot_be_committed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu_check.main(["-o", str(tmp_path), "--part", "environment", "--commit"]) == 2
    assert "--commit takes the result of every part" in capsys.readouterr().err


def test_an_output_that_is_a_file_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert gpu_check.main(["-o", str(tmp_path / "file")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_an_interrupted_check_keeps_what_had_ended_and_exits_130(tmp_path: Path) -> None:
    program = f"""
import sys
from benchmarks import gpu_check
from benchmarks.gpu.part import Part
entry = "tests.benchmarks.gpu_stand_in:"
gpu_check.why_no_gpu = lambda: ""
gpu_check.PARTS = (
    Part("quick", "quick", entry + "two_good", 30, False),
    Part("slow", "slow", entry + "hang_between", 60, True, {str(tmp_path / "noted")!r}),
)
sys.exit(gpu_check.main(["-o", {str(tmp_path)!r}]))
"""
    process = subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith("passed   quick")
    os.kill(process.pid, signal.SIGTERM)
    _, error = process.communicate(timeout=60)
    assert (process.returncode, error) == (130, "gpu-check: interrupted; what had ended by then was saved\n")
    states = {part["name"]: part["state"] for part in result_in(tmp_path)["parts"]}
    assert states == {"quick": PASSED, "slow": SKIPPED}


def test_every_case_of_the_kernels_belongs_to_one_part() -> None:
    found = [
        task.id for part in PARTS if part.name.startswith("kernels-") for task in list_tasks(part.tasks, part.argument)
    ]
    assert sorted(found) == sorted(f"{case.name}/{form}" for case, form in FORMS)


def test_the_limits_fit_into_nine_minutes() -> None:
    assert BUDGET_SECONDS < 9 * 60
    # Those that time nothing run side by side: none of them takes longer than the slowest.
    untimed = max(part.limit_seconds for part in PARTS if not part.timed)
    assert untimed + sum(part.limit_seconds for part in PARTS if part.timed) <= BUDGET_SECONDS


# A bare GPU box has the core packages and these not.
ABSENT = "pytest _pytest hypothesis ruff mypy playwright msgspec transformers sklearn"


def test_every_part_lists_its_tasks_without_gpu_web_packages_and_pytest() -> None:
    program = f"""
import sys
for name in {ABSENT.split()!r}:
    sys.modules[name] = None
from benchmarks.gpu.part import list_tasks
from benchmarks.gpu.parts import PARTS
for part in PARTS:
    ids = [task.id for task in list_tasks(part.tasks, part.argument)]
    assert ids and len(set(ids)) == len(ids), part.name
"""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join((str(CORE_ONLY), str(ROOT)))}
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
