import logging
from contextlib import ExitStack
from datetime import timedelta
from typing import Any

import pytest
import structlog
from sqlalchemy.orm import Session

from app.lib.jobs import ledger, worker
from app.lib.jobs.broker import enqueue
from app.lib.jobs.declaration import Job, job
from app.lib.origin import Origin, current_origin
from tests.lib.jobs.conftest import (
    Bench,
    fail_at_first,
    fail_every_time,
    from_newer_code,
    leave_the_process,
    leave_trace,
    leave_trace_slowly,
    refuse_and_keep,
    run_into_a_timeout,
    run_out_of_items,
    take_too_long,
    tick,
)
from tests.live import wait_until

SILENCE = """
    UPDATE saq_jobs SET job = convert_to(jsonb_set(convert_from(job, 'UTF8')::jsonb, '{touched}', '1')::text, 'UTF8')
"""

pytestmark = pytest.mark.integration


def test_a_job_runs_once_its_transaction_has_committed(bench: Bench) -> None:
    with bench.worker():
        bench.write(enqueue, leave_trace, number=1)

        bench.wait_for("complete")
        assert bench.traces == [1]


def test_what_a_job_does_comes_from_it_and_from_the_request_that_asked_for_it(bench: Bench) -> None:
    seen: list[Origin] = []

    @job()
    def look_where_it_comes_from(session: Session) -> None:
        seen.append(current_origin())

    with structlog.contextvars.bound_contextvars(request_id="a-request"):
        bench.write(enqueue, look_where_it_comes_from)
    with bench.worker(look_where_it_comes_from):
        bench.wait_for("complete")

    assert seen == [Origin("job jobs.look_where_it_comes_from", request_id="a-request")]


def test_each_line_about_a_job_names_it_and_the_request_that_asked_for_it(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.failures.left = 1
    with caplog.at_level(logging.INFO, logger="app.jobs"):
        with structlog.contextvars.bound_contextvars(request_id="a-request"):
            bench.write(enqueue, fail_at_first, number=1, key="a-key")
        with bench.worker():
            wait_until(lambda: bench.hurried("complete"), seconds=15)

    lines = [dict(record.msg) for record in caplog.records if isinstance(record.msg, dict)]
    said = [(line["event"], line["job"], line["key"], line["request_id"]) for line in lines if "job" in line]
    assert said == [(event, "jobs.fail_at_first", "a-key", "a-request") for event in ("job failed", "job done")]


def test_many_quick_jobs_are_all_done_at_the_first_attempt(bench: Bench) -> None:
    def enqueue_many(session: Session) -> None:
        for number in range(200):
            enqueue(session, leave_trace, number=number)

    with bench.worker(concurrency=4):
        bench.write(enqueue_many)

        wait_until(lambda: len(bench.traces) == 200, seconds=20)
        wait_until(lambda: {(job.status, job.attempts) for job in bench.stored} == {("complete", 1)}, seconds=5)


def test_a_worker_without_a_connection_for_its_jobs_keeps_them_and_costs_them_nothing(bench: Bench) -> None:
    with bench.worker(concurrency=2) as running, ExitStack() as held:
        pool = running.worker.runner._database.engine
        for _ in range(3):
            held.enter_context(pool.connect())
        pool.pool._timeout = 0.1  # type: ignore[attr-defined]  # of QueuePool
        bench.write(enqueue, leave_trace, number=1)
        wait_until(lambda: bench.stored[0].status == "active", seconds=5)
        wait_until(lambda: running.worker.bookkeeping.is_lost, seconds=5)

        held.close()
        bench.wait_for("complete")
        assert bench.stored[0].attempts == 1


def test_workers_stop_however_the_end_of_their_jobs_and_the_stop_meet(bench: Bench) -> None:
    for number in range(20):
        with bench.worker():
            bench.write(enqueue, leave_trace, number=number)
            wait_until(lambda at=number: len(bench.traces) > at, seconds=5)  # type: ignore[misc]  # a default


def test_a_job_for_later_waits_until_then(bench: Bench) -> None:
    with bench.worker():
        bench.write(enqueue, leave_trace, number=2, after=timedelta(hours=1))
        bench.write(enqueue, leave_trace, number=1)
        wait_until(lambda: bench.traces == [1], seconds=5)

        bench.make_due()
        bench.wait_for("complete", "complete")


def test_a_job_that_fails_is_rolled_back_and_tried_again_later(bench: Bench) -> None:
    bench.failures.left = 1
    with bench.worker():
        bench.write(enqueue, fail_at_first, number=1)

        wait_until(lambda: bench.hurried("complete"), seconds=15)
        assert (bench.traces, bench.stored[0].attempts, bench.stored[0].error) == ([1], 2, None)


def test_after_its_last_attempt_a_job_is_dead_until_somebody_revives_it(bench: Bench) -> None:
    bench.failures.left = 3
    with bench.worker():
        bench.write(enqueue, fail_at_first, number=1)
        wait_until(lambda: bench.hurried("failed"), seconds=15)
        assert (bench.traces, bench.stored[0].attempts) == ([], 3)

        assert bench.write(ledger.retry, bench.stored[0].key)
        bench.wait_for("complete")
        assert (bench.traces, bench.stored[0].attempts) == ([1], 1)


def test_a_job_that_takes_too_long_goes_to_another_thread_and_leaves_one_trace(bench: Bench) -> None:
    with bench.worker(concurrency=2):
        bench.write(enqueue, take_too_long, number=1)
        assert bench.gate.reached.wait(5)
        wait_until(lambda: bench.stored[0].error is not None, seconds=5)

        bench.gate.opened.set()
        bench.make_due()

        bench.wait_for("complete")
        assert bench.traces == [1]


def test_a_timeout_inside_a_job_is_the_jobs_own_failure(bench: Bench) -> None:
    with bench.worker():
        bench.write(enqueue, run_into_a_timeout)

        wait_until(lambda: "the mail server is silent" in str(bench.stored[0].error), seconds=5)


def test_a_job_that_only_newer_code_knows_waits_for_a_newer_worker(bench: Bench) -> None:
    with bench.worker():
        bench.write(enqueue, from_newer_code)

        wait_until(lambda: bench.stored[0].scheduled > 0, seconds=5)
        [waiting] = bench.stored
        assert (waiting.status, waiting.attempts) == ("queued", 0)
        assert 50 < waiting.scheduled - waiting.queued / 1000 < 70


def test_a_job_that_nobody_has_known_for_a_day_fails(bench: Bench) -> None:
    bench.write(enqueue, from_newer_code)
    bench.execute(SILENCE.replace("touched", "queued"))
    with bench.worker():
        wait_until(lambda: "JobUnknownError" in str(bench.stored[0].error), seconds=5)


@pytest.mark.parametrize("job", [refuse_and_keep, run_out_of_items, leave_the_process])
def test_whatever_a_job_raises_nothing_of_it_is_kept_and_its_slot_is_free_again(job: Job[Any], bench: Bench) -> None:
    with bench.worker(concurrency=1):
        bench.write(enqueue, job)
        wait_until(lambda: bench.hurried("failed"), seconds=15)
        assert (bench.traces, bench.stored[0].attempts) == ([], 3)

        bench.write(enqueue, leave_trace, number=2)
        bench.wait_for("failed", "complete")


def test_a_stop_waits_for_running_jobs_and_returns_at_once_without(bench: Bench) -> None:
    with bench.worker(grace=20) as running:
        bench.write(enqueue, leave_trace_slowly, number=1)
        assert bench.gate.reached.wait(5)
        running._loop.call_soon_threadsafe(running.worker.event.set)
        bench.gate.opened.set()
        running.stop()

        assert running.all_ended
        assert (bench.traces, [job.status for job in bench.stored]) == ([1], ["complete"])


def test_a_job_that_outlasts_the_grace_goes_back_to_the_queue_and_leaves_no_trace(bench: Bench) -> None:
    with bench.worker(grace=0.1) as running:
        bench.write(enqueue, leave_trace_slowly, number=1)
        assert bench.gate.reached.wait(5)
        running.stop()

        assert not running.all_ended
        assert [(job.status, job.attempts) for job in bench.stored] == [("queued", 0)]
    assert bench.traces == []

    with bench.worker():
        bench.wait_for("complete")
    assert bench.traces == [1]


def test_a_job_whose_worker_fell_silent_is_taken_by_another_and_leaves_one_trace(bench: Bench) -> None:
    with bench.worker():
        bench.write(enqueue, leave_trace_slowly, number=1)
        assert bench.gate.reached.wait(5)
        bench.execute(SILENCE)

        assert bench.write(ledger.recover) == [bench.stored[0].key]
        bench.gate.opened.set()
        bench.make_due()
        bench.wait_for("complete")
    assert bench.traces == [1]


def test_heartbeats_keep_a_long_job_with_its_worker(bench: Bench) -> None:
    with bench.worker():
        bench.write(enqueue, leave_trace_slowly, number=1)
        assert bench.gate.reached.wait(5)
        begun = bench.stored[0].touched

        wait_until(lambda: bench.stored[0].touched > begun, seconds=10)
        assert bench.write(ledger.recover) == []
        bench.gate.opened.set()
        bench.wait_for("complete")


def test_a_periodic_job_runs_once_at_each_time_however_many_workers_there_are(bench: Bench) -> None:
    with bench.worker(tick), bench.worker(tick):
        wait_until(lambda: len(bench.stored) == 1, seconds=5)
        [planned] = bench.stored
        assert (planned.key, planned.scheduled % 60) == (f"cron:jobs.tick:{planned.scheduled}", 0)

        bench.make_due()
        wait_until(lambda: bench.stored[0].status == "complete", seconds=5)
        assert bench.traces == [0]


def test_a_periodic_job_that_died_is_in_the_dead_list_while_its_next_run_is_planned(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "PLAN_SECONDS", 0.1)
    with bench.worker(fail_every_time):
        wait_until(lambda: len(bench.stored) == 1, seconds=5)
        wait_until(lambda: bench.hurried("failed"), seconds=15)

        wait_until(lambda: len(bench.stored) >= 2, seconds=15)
        assert bench.stored[0].status == "failed"
        assert "every time" in str(bench.stored[0].error)
