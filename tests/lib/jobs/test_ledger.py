from datetime import timedelta

import pytest
from sqlalchemy.orm import Session

from app.lib.jobs import ledger
from app.lib.jobs.broker import decode, enqueue, saq_jobs
from tests.lib.jobs.conftest import Bench, leave_trace

pytestmark = pytest.mark.integration

CLAIM = """
    UPDATE saq_jobs SET status = 'active', job = convert_to((convert_from(job, 'UTF8')::jsonb || jsonb_build_object(
        'attempts', CAST(:attempts AS int), 'worker_id', CAST(:worker AS text), 'status', 'active'))::text, 'UTF8')
"""


def claim(bench: Bench, *, attempts: int = 1, worker: str = "a worker") -> None:
    """As the worker does that dequeues it."""
    bench.execute(CLAIM, attempts=attempts, worker=worker)


@pytest.mark.parametrize("other", [{"attempts": 2}, {"worker": "another"}])
def test_an_attempt_that_was_superseded_can_neither_complete_nor_fail_the_job(
    other: dict[str, object], bench: Bench
) -> None:
    bench.write(enqueue, leave_trace, number=1)
    claim(bench)
    [ours] = bench.stored
    claim(bench, **other)  # type: ignore[arg-type]  # one of its keywords

    def work(session: Session) -> None:
        leave_trace(session, number=1)
        ledger.complete(session, ours)

    with pytest.raises(ledger.JobSupersededError):
        bench.write(work)
    assert bench.write(ledger.fail, ours, "no") is None
    bench.write(ledger.release, ours)
    assert (bench.traces, bench.stored[0].status) == ([], "active")


def test_of_two_that_recover_at_once_one_takes_the_job(bench: Bench) -> None:
    bench.write(enqueue, leave_trace, number=1)
    claim(bench)

    with bench.database.engine.connect() as connection, Session(connection) as session:
        taken = ledger.recover(session)
        assert bench.write(ledger.recover) == []
        session.commit()

    assert taken == [bench.stored[0].key]
    assert bench.stored[0].status == "queued"


def test_only_what_is_dead_can_be_revived(bench: Bench) -> None:
    bench.write(enqueue, leave_trace, key="one", number=1)

    assert not bench.write(ledger.retry, "one")
    assert not bench.write(ledger.retry, "none")


def test_finished_jobs_go_when_their_time_is_over_and_a_batch_at_a_time(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "BATCH", 2)
    for number in range(5):
        bench.write(enqueue, leave_trace, number=number)
    bench.execute(
        "UPDATE saq_jobs SET status = 'complete', expire_at = CASE WHEN lock_key = 1 THEN 4000000000 ELSE 1 END"
    )

    removed = [bench.write(ledger.remove_expired) for _ in range(3)]

    assert removed == [2, 2, 0]
    with bench.database.engine.connect() as connection:
        [left] = connection.scalars(saq_jobs.select().with_only_columns(saq_jobs.c.job)).all()
    assert decode(left).kwargs == {"number": 0}


def test_the_queue_is_seen_at_one_look(bench: Bench) -> None:
    assert bench.write(ledger.queue_figures) == ({"due": 0, "later": 0, "active": 0, "dead": 0}, 0, 0)
    for number in range(4):
        bench.write(enqueue, leave_trace, number=number, key=str(number))
    bench.write(enqueue, leave_trace, number=5, after=timedelta(hours=1))
    bench.execute("UPDATE saq_jobs SET status = 'failed' WHERE key = '1'")
    bench.execute("UPDATE saq_jobs SET status = 'complete' WHERE key = '2'")
    bench.execute("UPDATE saq_jobs SET status = 'active' WHERE key = '3'")
    bench.execute("UPDATE saq_jobs SET scheduled = scheduled - 60 WHERE key = '0'")
    bench.execute("INSERT INTO saq_stats (worker_id, expire_at) VALUES ('dead', 1), ('lives', 99999999999)")

    figures = bench.write(ledger.queue_figures)

    assert figures.by_state == {"due": 1, "later": 1, "active": 1, "dead": 1}
    assert 60 <= figures.oldest < 70
    assert figures.workers == 1
