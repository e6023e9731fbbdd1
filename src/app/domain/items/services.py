from uuid import UUID

from sqlalchemy import ColumnElement, true

from app.domain.items.models import Item
from app.lib.access.control import AccessControl
from app.lib.access.guards import Principal
from app.lib.access.policy import ADMIN
from app.lib.db.service import Repository, Service


class ItemService(Service[Item]):
    class Repo(Repository[Item]):
        model_type = Item

    repository_type = Repo

    def get_visible(self, item_id: UUID, user: Principal, access: AccessControl) -> Item:
        """Raises NotFoundError when there is none, or it belongs to somebody else."""
        return self.get_one(Item.id == item_id, visible_to(user, access))


def visible_to(user: Principal, access: AccessControl) -> ColumnElement[bool]:
    """People see their own items; superusers, and whoever has the role of administrators, all."""
    return true() if user.is_superuser or access.has_role(user, ADMIN) else Item.owner_id == user.id
