"""Jobs are claimed once, told of in order, ended once, and never left without words."""

import math
import threading

import pytest

from app.jobs.errors import ClaimLostError, JobError
from app.jobs.job import Note
from app.jobs.queue import LOG_LINES, STALE_SECONDS, Jobs, here
from app.store import open_store
from tests.app.jobs.making import log, submit

ANYTHING = {"place": "worker-1"}


def test_a_job_starts_queued_and_is_found_again(jobs):
    job = jobs.submit("profile", {"workload": "/m.py:f"}, title="Capture m", user="ada", about="run-1")
    assert jobs.get(job.id) == job
    assert (job.state, job.live, job.arguments["workload"]) == ("queued", True, "/m.py:f")
    assert jobs.list(about="run-1") == (job,) and jobs.list(about="run-2") == () and jobs.list(user="bob") == ()


def test_an_unknown_job_is_named(jobs):
    with pytest.raises(JobError, match="no job 'job-x'"):
        jobs.get("job-x")


def test_the_oldest_job_is_claimed_first(jobs, clock):
    first = submit(jobs, "quick")
    clock.now += 1
    second = submit(jobs, "quick")
    assert jobs.claim_local().id == first.id
    assert jobs.claim_local() is None, "one at a time"
    jobs.finish(first.id, jobs.get(first.id).claim, "done", {})
    assert jobs.claim_local().id == second.id


def test_two_claimers_in_threads_and_stores_of_their_own_never_get_the_same_job(jobs, tmp_path):
    expected = {submit(jobs, "quick").id for _ in range(24)}
    taken, start = [], threading.Barrier(4)

    def claim():
        with open_store(str(tmp_path / "store")) as store:
            own = Jobs(store.database)
            start.wait()
            while (job := own.claim("worker-1", lambda needs: True)) is not None:
                taken.append(job.id)

    threads = [threading.Thread(target=claim) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == 24 and set(taken) == expected


def test_a_place_gets_only_what_it_can_do(jobs):
    for_worker = submit(jobs, "quick", needs={"workload": {"name": "m.py:f", "source_hash": "ab"}})
    for_other = submit(jobs, "quick", needs={"place": "worker-2"})
    assert jobs.claim_local() is None
    assert (
        jobs.claim("worker-1", lambda needs: needs.get("workload", {}).get("source_hash") == "ab").id == for_worker.id
    )
    assert jobs.get(for_other.id).state == "queued"


@pytest.mark.parametrize(
    ("needs", "can"), [({}, True), ({"place": "local"}, True), ({"place": "w"}, False), ({"workload": {}}, False)]
)
def test_this_machine_does_what_asks_for_nothing_else(needs, can):
    assert here(needs) is can


def test_progress_and_log_are_told_in_order_and_kept_in_the_row(jobs, clock):
    job = submit(jobs, "quick")
    claim = jobs.claim_local().claim
    clock.now += 3
    assert jobs.report(job.id, claim, [Note("log", "a"), Note("progress", "half", 0.5), Note("log", "b")]) is False
    now = jobs.get(job.id)
    assert (now.stage, now.fraction, now.heartbeat) == ("half", 0.5, clock.now)
    kinds = [event.kind for event in jobs.events(job=job.id)]
    assert kinds == ["state", "state", "log", "progress", "log"]


def test_a_fraction_outside_0_to_1_is_held_in(jobs):
    job = submit(jobs, "quick")
    claim = jobs.claim_local().claim
    jobs.report(job.id, claim, [Note("progress", "over", 1.7)])
    assert jobs.get(job.id).fraction == 1.0


def test_a_log_without_end_is_cut_and_says_so(jobs):
    job = submit(jobs, "quick")
    claim = jobs.claim_local().claim
    jobs.report(job.id, claim, [Note("log", str(number)) for number in range(LOG_LINES - 1)])
    jobs.report(job.id, claim, [Note("log", "last"), Note("log", "too many"), Note("log", "far too many")])
    jobs.report(job.id, claim, [Note("log", "even later")])
    lines = log(jobs, job.id)
    assert len(lines) == LOG_LINES + 1 and lines[-2] == "last" and "left out" in lines[-1]


def test_a_done_job_has_a_result_without_nan_and_no_error(jobs):
    job = submit(jobs, "quick")
    claim = jobs.claim_local().claim
    jobs.report(job.id, claim, [Note("progress", "half", 0.5), Note("log", "kept")])
    done = jobs.finish(job.id, claim, "done", {"answer": 42, "ratio": math.nan})
    assert (done.state, done.result, done.error, done.fraction) == ("done", {"answer": 42, "ratio": "nan"}, "", 1.0)
    assert done.ended is not None and not done.live
    assert [event.kind for event in jobs.events(job=job.id)] == ["state", "state", "log", "state"]


def test_a_failed_job_always_has_words(jobs):
    job = submit(jobs, "quick")
    failed = jobs.finish(job.id, jobs.claim_local().claim, "failed")
    assert failed.result is None and failed.error


def test_the_same_end_again_is_harmless_and_another_is_refused(jobs):
    job = submit(jobs, "quick")
    claim = jobs.claim_local().claim
    done = jobs.finish(job.id, claim, "done", {"answer": 1})
    assert jobs.finish(job.id, claim, "done", {"answer": 2}) == done
    with pytest.raises(ClaimLostError, match="has ended: done"):
        jobs.finish(job.id, claim, "failed", error="late")
    with pytest.raises(ClaimLostError, match="has ended: done"):
        jobs.report(job.id, claim, [Note("log", "late")])


def test_only_who_holds_the_claim_may_speak(jobs):
    job = submit(jobs, "quick")
    jobs.claim_local()
    for act in (
        lambda: jobs.report(job.id, "wrong"),
        lambda: jobs.finish(job.id, "wrong", "done", {}),
        lambda: jobs.begin(job.id, "wrong", {}),
        lambda: jobs.requeue(job.id, "wrong", ""),
    ):
        with pytest.raises(ClaimLostError, match="given to another"):
            act()
    assert jobs.get(job.id).state == "running" and log(jobs, job.id) == []


def test_a_queued_job_is_cancelled_at_once(jobs):
    job = submit(jobs, "quick")
    cancelled = jobs.cancel(job.id, "bob")
    assert (cancelled.state, cancelled.error) == ("cancelled", "cancelled by bob")
    assert jobs.claim_local() is None


def test_a_running_job_is_asked_to_stop_and_says_who_asked(jobs):
    job = submit(jobs, "quick")
    claim = jobs.claim_local().claim
    assert jobs.cancel(job.id, "bob").state == "running"
    assert jobs.report(job.id, claim) is True
    assert jobs.cancel(job.id, "eve").error == "cancelled by bob"
    assert jobs.finish(job.id, claim, "cancelled").error == "cancelled by bob"


def test_a_job_done_before_the_cancel_reached_it_is_done(jobs):
    job = submit(jobs, "quick")
    claim = jobs.claim_local().claim
    jobs.cancel(job.id, "bob")
    done = jobs.finish(job.id, claim, "done", {"answer": 42})
    assert (done.state, done.error) == ("done", "")
    assert jobs.cancel(job.id, "bob") == done


def test_a_job_goes_back_to_the_queue_only_before_it_began(jobs):
    job = submit(jobs, "quick")
    old = jobs.claim_local().claim
    back = jobs.requeue(job.id, old, "nobody began")
    assert (back.state, back.claim, back.place, back.started) == ("queued", None, None, None)
    again = jobs.claim_local()
    with pytest.raises(ClaimLostError):
        jobs.begin(job.id, old, {"pid": 1, "started": ""})
    jobs.begin(job.id, again.claim, {"pid": 1, "started": ""})
    with pytest.raises(JobError, match="has begun"):
        jobs.requeue(job.id, again.claim, "twice")


def test_a_cancelled_job_that_had_not_begun_is_not_queued_again(jobs):
    job = submit(jobs, "quick")
    claim = jobs.claim_local().claim
    jobs.cancel(job.id, "bob")
    assert jobs.requeue(job.id, claim, "nobody began").state == "cancelled"


def test_a_worker_vanishes_after_30_seconds_of_silence(jobs, clock):
    submit(jobs, "quick", needs=ANYTHING)
    job = jobs.claim("worker-1", lambda needs: True)
    clock.now += STALE_SECONDS
    assert jobs.vanished() == ()
    clock.now += 1
    assert [item.id for item in jobs.vanished()] == [job.id]
    jobs.report(job.id, job.claim)
    assert jobs.vanished() == ()


def test_a_second_reader_sees_the_same_jobs_and_events(jobs, tmp_path):
    job = submit(jobs, "quick")
    jobs.report(job.id, jobs.claim_local().claim, [Note("progress", "half", 0.5)])
    with open_store(str(tmp_path / "store")) as store:
        other = Jobs(store.database)
        assert other.list() == jobs.list() and other.events() == jobs.events()
        assert other.last_event() == jobs.last_event() > 0


def test_changed_jobs_are_those_with_later_events(jobs):
    first, second = submit(jobs, "quick"), submit(jobs, "quick")
    seen = jobs.last_event()
    assert jobs.changed(seen) == (seen, ())
    jobs.cancel(second.id, "bob")
    version, changed = jobs.changed(seen)
    assert version == jobs.last_event() and [job.id for job in changed] == [second.id]
    assert {job.id for job in jobs.changed(0)[1]} == {first.id, second.id}


def test_live_and_ended_jobs_are_listed_apart_newest_first(jobs, clock):
    first = submit(jobs, "quick")
    clock.now += 1
    second = submit(jobs, "quick")
    clock.now += 1
    third = submit(jobs, "quick")
    jobs.cancel(second.id, "bob")
    assert [job.id for job in jobs.list()] == [third.id, second.id, first.id]
    assert [job.id for job in jobs.list(live=True)] == [third.id, first.id]
    assert [job.id for job in jobs.list(live=False)] == [second.id]
    assert [job.id for job in jobs.list(limit=1)] == [third.id]
