import pytest

from analyzer.errors import HotbenchError
from app.store.workers import Worker
from app.views.new_run import find_choice, grouped, job_request, local_choices, worker_choices

SOURCE = '''from analyzer.workload import Workload

def workload() -> Workload:
    """A small model."""
    return Workload()
'''


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "small.py").write_text(SOURCE)
    (tmp_path / "models" / "broken.py").write_text("from analyzer.workload import Workload\ndef (")
    return tmp_path / "models"


def worker(seen, **about):
    offered = [{"name": "gpu/big.py:training", "source_hash": "ab", "about": "Large.", "problem": ""},
               {"name": "bad.py", "source_hash": "", "about": "", "problem": "no Python"}]  # fmt: skip
    return Worker("worker-1", "gpu-1", "2026", "ada", None, seen, {"workloads": offered, **about})


def test_the_servers_folders_offer_their_workloads_and_name_what_cannot_be_read(folder):
    choices, problems = local_choices([folder])
    assert [(item.label, item.about, item.place) for item in choices] == [
        ("small.py:workload", "A small model.", "local")
    ]
    assert len(problems) == 1 and problems[0].startswith("broken.py: ")


def test_two_folders_are_told_apart(folder, tmp_path):
    other = tmp_path / "more"
    other.mkdir()
    (other / "small.py").write_text(SOURCE)
    choices, _ = local_choices([folder, other])
    assert [item.label for item in choices] == ["models/small.py:workload", "more/small.py:workload"]
    assert len({item.value for item in choices}) == 2


def test_only_workers_heard_of_lately_offer_something():
    assert worker_choices([worker(seen=100.0)], now=200.0) == ()
    (choice,) = worker_choices([worker(seen=190.0)], now=200.0)
    assert (choice.label, choice.place_name, choice.source_hash) == ("gpu/big.py:training", "gpu-1", "ab")


def test_choices_stand_under_the_name_of_their_place(folder):
    both = (*local_choices([folder])[0], *worker_choices([worker(seen=190.0)], now=200.0))
    assert [(item["group"], len(item["items"])) for item in grouped(both)] == [("this machine", 1), ("gpu-1", 1)]


def test_a_local_run_names_its_file_whole_and_a_workers_run_goes_to_that_worker(folder):
    (local,), _ = local_choices([folder])
    request = job_request(local, "cpu", 5, "", [folder])
    assert request.arguments == {
        "workload": f"{folder / 'small.py'}:workload",
        "device": "cpu",
        "steps": 5,
        "threads": None,
    }
    assert request.needs == {"place": "local"} and request.title == "Capture small.py:workload"
    (there,) = worker_choices([worker(seen=190.0)], now=200.0)
    request = job_request(there, "auto", None, 2.0, [folder])
    assert request.needs == {"place": "worker-1", "workload": {"name": "gpu/big.py:training", "source_hash": "ab"}}
    assert request.arguments["threads"] == 2 and request.title == "Capture gpu/big.py:training on gpu-1"


def test_what_is_not_offered_is_refused(folder):
    choices, _ = local_choices([folder])
    with pytest.raises(HotbenchError, match="not offered any more"):
        find_choice(choices, "local|/etc/passwd:main")
    for nothing in (None, ""):
        with pytest.raises(HotbenchError, match="no workload is chosen"):
            find_choice(choices, nothing)
    with pytest.raises(HotbenchError, match="folders of workloads"):
        job_request(choices[0], "cpu", None, None, [folder.parent / "elsewhere"])


@pytest.mark.parametrize("steps", [0, -1, 1.5, "x", 10**9, True])
def test_a_count_that_is_none_is_refused_by_name(folder, steps):
    (local,), _ = local_choices([folder])
    with pytest.raises(HotbenchError, match="steps"):
        job_request(local, "cpu", steps, None, [folder])


def test_a_device_that_is_none_is_refused(folder):
    (local,), _ = local_choices([folder])
    with pytest.raises(HotbenchError, match="'tpu' is no device"):
        job_request(local, "tpu", None, None, [folder])
