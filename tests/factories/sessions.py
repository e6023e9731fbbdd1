from datetime import timedelta

from polyfactory import Use
from polyfactory.factories.sqlalchemy_factory import SQLAlchemyFactory

from app.domain.sessions.models import UserSession
from app.lib.db.models import utc_now


class UserSessionFactory(SQLAlchemyFactory[UserSession]):
    """A sign-in of just now. Give it a `user_id`."""

    authenticated_at = Use(utc_now)
    last_seen_at = Use(utc_now)
    expires_at = Use(lambda: utc_now() + timedelta(days=7))
    revoked_at = None
    revocation_reason = None
    identity_id = None
    created_at = Use(utc_now)
    updated_at = Use(utc_now)
