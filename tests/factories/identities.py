from polyfactory import Use
from polyfactory.factories.sqlalchemy_factory import SQLAlchemyFactory

from app.domain.identities.models import Identity
from app.lib.db.models import utc_now


class IdentityFactory(SQLAlchemyFactory[Identity]):
    """Somebody at a provider. Give it a `user_id`."""

    provider = "fake"
    issuer = "https://id.example.com"
    email = None
    last_used_at = None
    created_at = Use(utc_now)
    updated_at = Use(utc_now)
