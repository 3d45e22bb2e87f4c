"""A job that could not end itself ends in words, with what it saved; nothing of no use is left listed."""

import pytest

from analyzer.run import save_run, with_content_id
from app.jobs.ending import end_in_words
from app.jobs.job import Note
from app.jobs.queue import Jobs
from app.jobs.recording import RecordingStore
from optimizers.candidate import make_candidate, save_candidate
from tests.app.jobs.making import submit
from tests.app.values import report_candidate, report_run


@pytest.fixture
def jobs(store):
    return Jobs(store.database)


def claimed(jobs):
    submit(jobs, "optimize")
    return jobs.claim_local()


def save_one_run(store):
    run = with_content_id(report_run())
    return run, store.save("run", lambda folder: save_run(run, folder), name=run.name)


def save_one_candidate(store, run):
    candidate = make_candidate(run.id, run.workload, report_candidate(run).applied)
    return store.save("candidate", lambda folder: save_candidate(candidate, folder), name="c", parent=run.id)


def recording(store, jobs, job):
    return RecordingStore(store, lambda id: jobs.report(job.id, job.claim, [Note("value", id)]))


def test_what_it_saved_is_named(store, jobs):
    job = claimed(jobs)
    _, entry = save_one_run(recording(store, jobs, job))
    end_in_words(store, jobs, job, "failed", "it was killed")
    assert jobs.get(job.id).error == f"it was killed; it had saved run {entry.id}"


def test_a_value_that_was_only_about_to_be_saved_is_not_named(store, jobs):
    job = claimed(jobs)
    jobs.report(job.id, job.claim, [Note("value", "run-000000000000")])
    end_in_words(store, jobs, job, "failed", "it was killed")
    assert jobs.get(job.id).error == "it was killed"


def test_a_candidate_that_was_never_measured_is_removed(store, jobs):
    run, _ = save_one_run(store)
    job = claimed(jobs)
    save_one_candidate(recording(store, jobs, job), run)
    end_in_words(store, jobs, job, "failed", "it was killed")
    assert store.entries("candidate") == () and jobs.get(job.id).error == "it was killed"


def test_a_candidate_of_an_earlier_job_stays(store, jobs):
    run, _ = save_one_run(store)
    entry = save_one_candidate(store, run)
    later = Jobs(store.database, lambda: 4_000_000_000.0)
    job = claimed(later)
    later.report(job.id, job.claim, [Note("value", entry.id)])
    end_in_words(store, later, job, "failed", "it was killed")
    assert store.entries("candidate") == (entry,)


def test_a_job_that_has_its_end_keeps_it(store, jobs):
    job = claimed(jobs)
    jobs.finish(job.id, job.claim, "done", {"answer": 42})
    end_in_words(store, jobs, job, "failed", "too late")
    assert jobs.get(job.id).state == "done"
