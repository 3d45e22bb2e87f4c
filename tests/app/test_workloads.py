"""What a folder offers is found without running it; a name never leads out of the folders."""

import dataclasses
import hashlib
from pathlib import Path

import pytest

from analyzer.errors import WorkloadError
from app.store import Entry
from app.store.workers import Worker
from app.web.context import ServerSettings
from app.workloads import can_do, check_allowed, find_source, find_workloads, needs_of, offers
from tests.conftest import EXAMPLES
from tests.synthetic import Call, make_run

SOURCE = '''
"""Never imported: it would fail."""
raise SystemExit

def annotated(size=3, *, depth: int = 2) -> "analyzer.workload.Workload":
    """First line.

    Second paragraph."""

def attribute() -> workload.Workload: ...

def returned():
    if True:
        return Workload(model=None, inputs=None)

def _hidden() -> Workload: ...
def needs_an_argument(size) -> Workload: ...
def needs_a_keyword(*, size) -> Workload: ...
def another() -> int: ...
async def later() -> Workload: ...
class Model:
    def method(self) -> Workload: ...
'''


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "workloads"
    (root / "sub" / "deep").mkdir(parents=True)
    (root / ".hidden").mkdir()
    (root / "sub" / "model.py").write_text(SOURCE)
    (root / ".hidden" / "model.py").write_text(SOURCE)
    (root / ".dot.py").write_text(SOURCE)
    (root / "notes.txt").write_text(SOURCE)
    (tmp_path / "outside.py").write_text(SOURCE)
    (root / "leads_out.py").symlink_to(tmp_path / "outside.py")
    return root


def test_functions_that_give_a_workload_are_listed_and_nothing_is_run(folder):
    found = find_workloads(folder)
    assert [item.name for item in found] == [
        "sub/model.py:annotated",
        "sub/model.py:attribute",
        "sub/model.py:returned",
    ]
    assert found[0].about == "First line." and found[0].function == "annotated" and found[0].problem == ""
    assert found[0].source_hash == hashlib.sha256(SOURCE.encode()).hexdigest()


def test_a_file_with_a_mistake_is_told_of_and_one_that_is_too_big_is_not(folder):
    (folder / "broken.py").write_text("def f(:\n")
    (folder / "zero.py").write_bytes(b"x = '\0'")
    (folder / "big.py").write_text(SOURCE + "#" * (1 << 20))
    problems = {item.name: item.problem for item in find_workloads(folder) if item.problem}
    assert set(problems) == {"broken.py", "zero.py"}
    assert problems["broken.py"].startswith("no Python that can be read: ") and "line 1" in problems["broken.py"]


def test_a_changed_file_is_read_anew(folder):
    file = folder / "sub" / "model.py"
    before = find_workloads(folder)
    file.write_text("def one() -> Workload:\n    '''Now another.'''\n")
    after = find_workloads(folder)
    assert [item.about for item in after] == ["Now another."] and before[0].source_hash != after[0].source_hash


def test_every_example_of_ours_is_found():
    names = {item.name for item in find_workloads(EXAMPLES)}
    assert {"lstm.py:workload", "lstm.py:training", "cnn.py:workload", "minilm.py:workload"} <= names


def test_an_empty_and_a_missing_folder_offer_nothing(tmp_path):
    assert find_workloads(tmp_path) == find_workloads(tmp_path / "none") == ()


def test_a_name_within_the_folders_becomes_absolute(folder):
    wanted = f"{folder.resolve() / 'sub' / 'model.py'}:annotated"
    assert check_allowed("sub/model.py:annotated", [folder.parent / "none", folder]) == wanted
    assert check_allowed(wanted, [folder]) == wanted


@pytest.mark.parametrize(
    "name",
    [
        "../outside.py:annotated", "sub/../../outside.py:annotated", "leads_out.py:annotated", "/etc/passwd:f",
        "sub:f", "none.py:f", "notes.txt:f",
    ],
)  # fmt: skip
def test_a_name_that_leads_elsewhere_is_refused(folder, name):
    with pytest.raises(WorkloadError, match="is no file in the folders of workloads"):
        check_allowed(name, [folder])


@pytest.mark.parametrize("name", ["", "model.py", ":f", "model.py:", "model.py:f()", "a\0.py:f", "model.py:a.b"])
def test_what_is_no_name_is_refused(folder, name):
    with pytest.raises(WorkloadError, match=r"names no workload; write path/to/file.py:function"):
        check_allowed(name, [folder])


def test_without_folders_nothing_may_be_run(folder):
    with pytest.raises(WorkloadError, match="no folder of workloads was named"):
        check_allowed("sub/model.py:annotated", [])


def test_a_source_is_found_again_by_its_hash(folder):
    digest = hashlib.sha256(SOURCE.encode()).hexdigest()
    assert find_source(digest, "returned", [folder]) == f"{folder.resolve() / 'sub' / 'model.py'}:returned"
    assert find_source("0" * 64, "returned", [folder]) is None


OFFERED = [{"name": "elsewhere/model.py:workload", "source_hash": "0" * 64}]
WANTED = {"name": "model.py:workload", "source_hash": "0" * 64}


def test_content_and_function_count_not_where_the_file_lies():
    assert offers(OFFERED, WANTED)
    assert not offers(OFFERED, {**WANTED, "name": "model.py:training"})
    assert not offers(OFFERED, {**WANTED, "source_hash": "1" * 64})
    assert not offers([], WANTED)


@pytest.mark.parametrize(
    ("needs", "can"),
    [
        ({"place": "w1"}, True),
        ({"place": "w2"}, False),
        ({"place": "local"}, False),
        ({}, False),
        ({"workload": WANTED}, True),
        ({"workload": WANTED, "device": "cpu"}, True),
        ({"workload": WANTED, "device": "cuda"}, False),
        ({"workload": WANTED, "place": "w2"}, False),
        ({"workload": {**WANTED, "source_hash": "1" * 64}, "place": "w1"}, False),
    ],
)
def test_a_worker_does_what_its_machine_and_its_files_allow(needs, can):
    assert can_do({"workloads": OFFERED, "devices": ["cpu"]}, "w1", needs) is can


RUN = make_run([Call("aten::mm", 1e-3)])
LOCAL = Entry("run-1", "run", None, "a", "2026", "0" * 64, {"device": "cpu"})
REMOTE = dataclasses.replace(LOCAL, summary={"place": "w1", "place_name": "gpu-1"})


def worker(**about):
    return Worker("w2", "gpu-2", "2026", "ada", about={"devices": ["cpu"], "workloads": OFFERED, **about})


def test_a_run_of_this_machine_is_worked_on_here():
    assert needs_of(LOCAL, RUN, ServerSettings()) == {"place": "local"}


def test_a_run_of_a_worker_goes_back_to_one_with_the_file_and_the_device():
    expected = {"workload": WANTED, "device": "cpu"}
    assert needs_of(REMOTE, RUN, ServerSettings()) == expected
    assert needs_of(REMOTE, RUN, ServerSettings(), [worker()]) == expected


@pytest.mark.parametrize("others", [[worker(devices=["cuda"])], [worker(workloads=[])]])
def test_where_no_worker_has_the_file_any_more_that_is_said(others, folder):
    with pytest.raises(
        WorkloadError, match=r"no worker offers model.py:workload .* captured on gpu-1; .*profile it anew"
    ):
        needs_of(REMOTE, RUN, ServerSettings(workloads=(folder,)), others)
    source = folder / "model.py"
    source.write_text(SOURCE)
    reference = dataclasses.replace(RUN.workload, source_hash=hashlib.sha256(source.read_bytes()).hexdigest())
    known = dataclasses.replace(RUN, workload=reference)
    with pytest.raises(WorkloadError, match=r"or profile .*model.py:workload here"):
        needs_of(REMOTE, known, ServerSettings(workloads=(Path(folder),)), others)
