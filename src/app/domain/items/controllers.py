from uuid import UUID

from litestar import Controller
from litestar.params import FromPath, FromQuery, JSONBody

from app.domain.items.models import Item
from app.domain.items.schemas import ItemCreate, ItemRead, ItemSort, ItemUpdate
from app.domain.items.services import ItemService, visible_to
from app.lib.access.control import Access
from app.lib.access.guards import CurrentUser, authenticated
from app.lib.pagination import Page, PageQuery, contains
from app.lib.routing import delete, get, patch, post


class ItemController(Controller):
    path = "/items"
    tags = ["items"]
    opt = {"scope": "items"}
    guards = [authenticated]

    @get()
    def list_items(
        self,
        items: ItemService,
        me: CurrentUser,
        access: Access,
        page: PageQuery,
        sort: FromQuery[ItemSort] = "-created_at",
    ) -> Page[ItemRead]:
        """List my items.

        Administrators see everybody's. A time without an offset is taken as UTC.
        """
        text = contains(page.q, Item.title, Item.description)
        return items.page(visible_to(me, access), text, page=page, sort=sort, into=ItemRead)

    @post()
    def create_item(self, data: JSONBody[ItemCreate], items: ItemService, me: CurrentUser) -> ItemRead:
        """Create an item."""
        item = Item(owner_id=me.id, title=data.title, description=data.description)
        return ItemRead.of(items.create(item))

    @get("/{item_id:uuid}")
    def get_item(self, item_id: FromPath[UUID], items: ItemService, me: CurrentUser, access: Access) -> ItemRead:
        """Show an item."""
        return ItemRead.of(items.get_visible(item_id, me, access))

    @patch("/{item_id:uuid}")
    def update_item(
        self, item_id: FromPath[UUID], data: JSONBody[ItemUpdate], items: ItemService, me: CurrentUser, access: Access
    ) -> ItemRead:
        """Change an item. Fields that are left out stay as they are."""
        return ItemRead.of(items.apply(items.get_visible(item_id, me, access), data))

    @delete("/{item_id:uuid}")
    def delete_item(self, item_id: FromPath[UUID], items: ItemService, me: CurrentUser, access: Access) -> None:
        """Delete an item."""
        items.remove(items.get_visible(item_id, me, access))
