from polyfactory import Use
from polyfactory.factories.sqlalchemy_factory import SQLAlchemyFactory

from app.domain.users.models import User
from app.lib.db.models import utc_now


class UserFactory(SQLAlchemyFactory[User]):
    """Somebody active and verified, without a password."""

    __set_relationships__ = False

    email = Use(lambda: f"{UserFactory.__random__.randbytes(8).hex()}@example.com")
    first_name = "Ada"
    last_name = "Lovelace"
    password_hash = None
    phone = None
    avatar_url = None
    is_active = True
    is_verified = True
    is_superuser = False
    last_login = None
    created_at = Use(utc_now)
    updated_at = Use(utc_now)
