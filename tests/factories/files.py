from polyfactory import Use
from polyfactory.factories.sqlalchemy_factory import SQLAlchemyFactory

from app.domain.files.models import File
from app.lib.db.models import utc_now


class FileFactory(SQLAlchemyFactory[File]):
    """The row alone. Give it an `owner_id`."""

    name = Use(lambda: f"file-{FileFactory.__random__.randrange(10**6)}.png")
    media_type = "image/png"
    size = Use(lambda: FileFactory.__random__.randrange(1, 10**6))
    sha256 = Use(lambda: FileFactory.__random__.randbytes(32).hex())
    created_at = Use(utc_now)
    updated_at = Use(utc_now)
