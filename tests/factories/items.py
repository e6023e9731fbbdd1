from polyfactory import Use
from polyfactory.factories.sqlalchemy_factory import SQLAlchemyFactory

from app.domain.items.models import Item
from app.lib.db.models import utc_now


class ItemFactory(SQLAlchemyFactory[Item]):
    """Give it an `owner_id`."""

    title = Use(lambda: f"Item {ItemFactory.__random__.randrange(10**6)}")
    description = None
    created_at = Use(utc_now)
    updated_at = Use(utc_now)
