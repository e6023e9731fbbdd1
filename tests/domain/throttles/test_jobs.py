from datetime import timedelta

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.domain.throttles import jobs as throttle_jobs
from app.domain.throttles.jobs import remove_expired_throttles
from app.domain.throttles.models import Throttle
from app.lib.db.models import utc_now
from app.lib.jobs.broker import enqueue
from tests.inline_jobs import InlineJobs

pytestmark = pytest.mark.integration


@pytest.fixture(autouse=True)
def rows(session: Session) -> None:
    for number, hours in enumerate([-2, -1, 1]):
        expires_at = utc_now() + timedelta(hours=hours)
        session.add(Throttle(subject_hash=bytes([number]) * 32, expires_at=expires_at))
    enqueue(session, remove_expired_throttles)
    session.commit()


def test_what_is_forgotten_is_removed(session: Session, jobs: InlineJobs) -> None:
    jobs.run()

    assert session.scalars(select(Throttle.subject_hash)).all() == [b"\2" * 32]
    assert jobs.queued == []


def test_what_is_left_of_a_full_batch_is_the_next_jobs(jobs: InlineJobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throttle_jobs, "BATCH", 2)

    jobs.run()

    assert jobs.queued == [("throttles.remove_expired_throttles", {})]
