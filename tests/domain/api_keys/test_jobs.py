from collections.abc import Callable
from datetime import datetime, timedelta
from email.message import EmailMessage

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.domain.api_keys.jobs import KEEP_DEAD, remove_dead_api_keys
from app.domain.api_keys.models import ApiKey
from app.lib.db.models import utc_now
from app.lib.mail.backends import text_of
from tests.conftest import SignedIn
from tests.factories.api_keys import ApiKeyFactory
from tests.inline_jobs import InlineJobs

pytestmark = pytest.mark.integration
AsUser = Callable[..., SignedIn]


def make_key(who: SignedIn) -> str:
    made = who.post("/users/me/api-keys", json={"name": "win at evil.example", "scopes": ["items:read"]}).json()
    return str(made["key"])


def test_the_owner_is_told_of_a_new_key_and_the_mail_does_not_hold_it(
    as_user: AsUser, jobs: InlineJobs, mailbox: list[EmailMessage]
) -> None:
    ada = as_user()
    key = make_key(ada)

    jobs.run()

    [message] = mailbox
    assert message["To"] == f"Ada Lovelace <{ada.user.email}>"
    assert message["Subject"] == "An API key was made for your account at Keel"
    assert key[:11] in text_of(message)
    assert "win at evil.example" in text_of(message)
    assert key not in message.as_string()


def test_an_unverified_account_says_nothing_in_our_mail(
    as_user: AsUser, jobs: InlineJobs, mailbox: list[EmailMessage]
) -> None:
    make_key(as_user(is_verified=False))

    jobs.run()

    assert "evil.example" not in mailbox[0].as_string()
    assert text_of(mailbox[0]).startswith("Hello,\n")


def test_keys_that_ended_long_ago_are_removed(as_user: AsUser, session: Session) -> None:
    user_id, long_ago = as_user().user.id, utc_now() - KEEP_DEAD - timedelta(hours=1)

    def key(*, expires_at: datetime | None = None, revoked_at: datetime | None = None) -> ApiKey:
        return ApiKeyFactory.build(user_id=user_id, expires_at=expires_at, revoked_at=revoked_at)

    kept = [key(), key(expires_at=utc_now()), key(revoked_at=utc_now())]
    session.add_all([*kept, key(expires_at=long_ago), key(revoked_at=long_ago)])
    session.flush()

    remove_dead_api_keys(session)

    assert set(session.scalars(select(ApiKey.id))) == {row.id for row in kept}
