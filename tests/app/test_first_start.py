from types import SimpleNamespace

from app.first_start import submit_first_run
from app.jobs.queue import Jobs
from app.store import open_store
from app.web.context import Context, ServerSettings


def context_of(store):
    return Context(ServerSettings(), store, Jobs(store.database))


def test_an_empty_store_gets_one_job_of_the_example(tmp_path):
    with open_store(str(tmp_path)) as store:
        context = context_of(store)
        job = submit_first_run(context, "/somewhere/lstm.py:workload")
        assert (job.kind, job.title, job.state) == ("profile", "Capture lstm.py:workload", "queued")
        assert job.arguments["workload"] == "/somewhere/lstm.py:workload"
        assert submit_first_run(context, "/somewhere/lstm.py:workload") is None
        assert len(context.jobs.list()) == 1


def test_a_cancelled_first_job_is_not_asked_for_again(tmp_path):
    with open_store(str(tmp_path)) as store:
        context = context_of(store)
        job = submit_first_run(context, "/somewhere/lstm.py:workload")
        context.jobs.cancel(job.id, "local")
        assert submit_first_run(context, "/somewhere/lstm.py:workload") is None


def test_a_store_with_a_run_gets_no_job(stored):
    place, *_ = stored
    with open_store(place) as store:
        context = context_of(store)
        assert submit_first_run(context, "/somewhere/lstm.py:workload") is None
        assert context.jobs.list() == ()


def test_a_read_only_store_gets_no_job():
    store = SimpleNamespace(writable=False)
    assert submit_first_run(Context(ServerSettings(), store, None), "/somewhere/lstm.py:workload") is None
