from datetime import timedelta
from uuid import uuid4

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.domain.identities.jobs import KEEP_EXPIRED, remove_expired_sign_ins
from app.domain.identities.models import AuthorizationRequest
from app.lib.db.models import utc_now

pytestmark = pytest.mark.integration


def test_requests_that_nobody_came_back_from_are_removed(session: Session) -> None:
    for age in (timedelta(0), KEEP_EXPIRED + timedelta(minutes=1)):
        session.add(
            AuthorizationRequest(
                state_hash=uuid4().bytes * 2,
                browser_hash=uuid4().bytes * 2,
                provider="fake",
                destination="/",
                wants_code=False,
                expires_at=utc_now() - age,
            )
        )
    session.flush()

    remove_expired_sign_ins(session)

    assert len(session.scalars(select(AuthorizationRequest)).all()) == 1
