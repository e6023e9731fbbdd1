from uuid import UUID

from sqlalchemy import ColumnElement, true

from app.domain.items.models import Item
from app.lib.access.guards import Principal
from app.lib.db.service import Repository, Service


class ItemService(Service[Item]):
    class Repo(Repository[Item]):
        model_type = Item

    repository_type = Repo

    def get_visible(self, item_id: UUID, user: Principal) -> Item:
        """Raises NotFoundError when there is none, or it belongs to somebody else."""
        return self.get_one(Item.id == item_id, visible_to(user))


def visible_to(user: Principal) -> ColumnElement[bool]:
    """People see their own items, superusers all."""
    return true() if user.is_superuser else Item.owner_id == user.id
