from polyfactory import Use
from polyfactory.factories.sqlalchemy_factory import SQLAlchemyFactory

from app.domain.api_keys.models import ApiKey
from app.lib.db.models import utc_now


class ApiKeyFactory(SQLAlchemyFactory[ApiKey]):
    """A key that may read items, and that nobody has used. Give it a `user_id`."""

    prefix = "keel_abcdef"
    scopes = Use(lambda: ["items:read"])
    key_hash = Use(lambda: ApiKeyFactory.__random__.randbytes(32))
    expires_at = None
    last_used_at = None
    revoked_at = None
    created_at = Use(utc_now)
    updated_at = Use(utc_now)
