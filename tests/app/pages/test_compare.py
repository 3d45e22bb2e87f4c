import dataclasses

import pytest

from analyzer.errors import HotbenchError
from analyzer.run import save_run, with_content_id
from app.pages import compare
from tests.app.components.tree import by_id, ids, texts


@pytest.fixture
def pair(desk):
    other = with_content_id(dataclasses.replace(desk.run, name="other.py:workload", threads=8))
    desk.store.save("run", lambda folder: save_run(other, folder), name=other.name, created=other.created)
    return {"before": desk.run.id, "after": other.id}


def end(desk, job, **result):
    claimed = desk.jobs.claim_local()
    assert claimed.id == job.id
    desk.jobs.finish(job.id, claimed.claim, "done", result)


def test_stored_values_stand_beside_each_other_and_give_no_verdict(desk, pair):
    shown = texts(compare.layout(pair))
    assert "not interleaved" in shown and "No verdict." in shown
    assert "threads: 1 before, 8 after" in shown
    assert f"hotbench compare {pair['before']} {pair['after']}" in shown


def test_measuring_anew_is_a_job_that_a_reload_finds_again(desk, pair):
    job = compare.start(**pair)
    assert (job.kind, job.about, dict(job.arguments)) == ("compare", pair["before"], pair)
    assert "compare-start" not in ids(compare.layout(pair))
    assert job.title in texts(compare.layout(pair))
    with pytest.raises(HotbenchError, match="already"):
        compare.start(**pair)
    assert compare.latest_job(pair["after"], pair["before"]) is None


def test_the_verdict_shows_its_experiment(desk, pair):
    end(desk, compare.start(**pair), verdict="faster", experiment=desk.experiment.id)
    tree = compare.layout(pair)
    assert "Open the experiment" in texts(tree) and "compare-start" in ids(tree)


def test_a_verdict_from_stored_times_is_marked(desk, pair):
    end(desk, compare.start(**pair), verdict="inconclusive", reason="inconclusive: m.py has changed", experiment=None)
    assert "inconclusive not interleaved m.py has changed" in texts(compare.layout(pair))


def test_runs_of_two_machines_cannot_be_measured_in_one_sitting(desk, pair):
    third = with_content_id(dataclasses.replace(desk.run, name="third.py:workload"))
    summary = {"place": "worker-1", "place_name": "gpu-1"}
    desk.store.save("run", lambda folder: save_run(third, folder), name=third.name, summary=summary)
    with pytest.raises(HotbenchError, match="only on one machine"):
        compare.start(pair["before"], third.id)
    tree = compare.layout({"before": pair["before"], "after": third.id})
    assert "gpu-1" in texts(tree) and "compare-start" not in ids(tree)


def test_without_two_runs_the_page_asks_for_them(desk, pair):
    assert "Choose both runs." in texts(compare.layout({"before": pair["before"]}))
    assert "one and the same run" in texts(compare.layout({"before": pair["before"], "after": pair["before"]}))
    assert by_id(compare.layout(pair), "compare-before").value == pair["before"]


def test_one_run_alone_is_too_few(desk):
    assert "Too few runs" in texts(compare.layout({}))
