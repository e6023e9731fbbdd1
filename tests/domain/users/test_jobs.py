from datetime import timedelta

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.domain.audit.models import Action, AuditEvent
from app.domain.users.jobs import KEEP_UNVERIFIED, remove_unverified_accounts
from app.domain.users.models import User
from app.lib.db.models import utc_now
from app.lib.settings import Settings
from tests.factories.users import UserFactory

pytestmark = pytest.mark.integration


@pytest.mark.parametrize(
    ("needs_verified", "left"), [(True, {"new", "verified", "signed in", "administrator"}), (False, None)]
)
def test_accounts_that_nobody_verified_or_used_are_removed_where_verification_is_needed(
    needs_verified: bool, left: set[str] | None, session: Session, settings: Settings
) -> None:
    old = {"is_verified": False, "created_at": utc_now() - KEEP_UNVERIFIED - timedelta(hours=1)}
    users = [
        UserFactory.build(first_name="abandoned", **old),
        UserFactory.build(first_name="new", is_verified=False),
        UserFactory.build(first_name="verified", **old | {"is_verified": True}),
        UserFactory.build(first_name="signed in", **old, last_login=utc_now()),
        UserFactory.build(first_name="administrator", **old, is_superuser=True),
    ]
    session.add_all(users)
    session.flush()

    remove_unverified_accounts(session, settings.model_copy(update={"require_verified_email": needs_verified}))

    found = set(session.scalars(select(User.first_name)))
    assert found == (left or {user.first_name for user in users})
    events = session.scalars(select(AuditEvent).where(AuditEvent.action == Action.USER_DELETED)).all()
    assert [event.count for event in events] == ([1] if needs_verified else [])
