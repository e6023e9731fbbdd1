from polyfactory import Use
from polyfactory.factories.sqlalchemy_factory import SQLAlchemyFactory

from app.domain.posts.models import Post
from app.lib.db.models import utc_now


class PostFactory(SQLAlchemyFactory[Post]):
    """A draft. Give it an `owner_id`."""

    title = Use(lambda: f"Post {PostFactory.__random__.randrange(10**6)}")
    body = "It weaves algebraic patterns."
    published = False
    created_at = Use(utc_now)
    updated_at = Use(utc_now)
