from uuid import UUID

from litestar import Controller
from litestar.params import FromPath, FromQuery, JSONBody

from app.domain.access.models import Permission, PermissionGrant, Role
from app.domain.grants.schemas import PermissionCreate, PermissionRead, PermissionSort
from app.domain.grants.services import GrantService
from app.domain.roles.services import AssignmentService, RoleService
from app.lib.access.control import Access
from app.lib.access.guards import CurrentUser, recently_authenticated, requires
from app.lib.pagination import Page, PageQuery, contains
from app.lib.routing import delete, get, post


class RolePermissionController(Controller):
    """What a role may do."""

    path = "/roles/{name:str}/permissions"
    tags = ["roles"]

    @get(guards=[requires(Permission.ROLES_READ)], scope="roles")
    def list_role_permissions(
        self,
        name: FromPath[str],
        roles: RoleService,
        grants: GrantService,
        access: Access,
        me: CurrentUser,
        page: PageQuery,
        sort: FromQuery[PermissionSort] = "resource",
    ) -> Page[PermissionRead]:
        """List the permissions of a role, without those of its parents."""
        role = roles.find(name, access.where(me, Permission.ROLES_READ, Role))
        text = contains(page.q, PermissionGrant.resource, PermissionGrant.action)
        return grants.page(PermissionGrant.role_id == role.id, text, page=page, sort=sort, into=PermissionRead)

    @post(guards=[requires(Permission.ROLES_UPDATE), recently_authenticated])
    def create_role_permission(
        self, name: FromPath[str], data: JSONBody[PermissionCreate], grants: GrantService, me: CurrentUser
    ) -> PermissionRead:
        """Give a permission to a role, or withhold it.

        You must hold it yourself, and not have the role. `rule` is an expression over `r.sub.id` and the attributes of
        the object, such as `r.obj.owner_id == r.sub.id`. Needs a recent sign-in.
        """
        return PermissionRead.of(grants.grant_to_role(name, data, by=me))

    @delete("/{permission_id:uuid}", guards=[requires(Permission.ROLES_UPDATE), recently_authenticated])
    def delete_role_permission(
        self, name: FromPath[str], permission_id: FromPath[UUID], grants: GrantService, me: CurrentUser
    ) -> None:
        """Take a permission from a role. Needs a recent sign-in."""
        grants.take_from_role(name, permission_id, by=me)


class UserPermissionController(Controller):
    """What one user may do beside what their roles say, usually to one object."""

    path = "/users/{user_id:uuid}/permissions"
    tags = ["roles"]

    @get(guards=[requires(Permission.USERS_READ)], scope="users", records=True)
    def list_user_permissions(
        self,
        user_id: FromPath[UUID],
        assignments: AssignmentService,
        grants: GrantService,
        access: Access,
        me: CurrentUser,
        page: PageQuery,
        sort: FromQuery[PermissionSort] = "resource",
    ) -> Page[PermissionRead]:
        """List the permissions that were given to somebody beside their roles."""
        user = assignments.find_visible_user(user_id, me, access)
        text = contains(page.q, PermissionGrant.resource, PermissionGrant.action)
        return grants.page(PermissionGrant.user_id == user.id, text, page=page, sort=sort, into=PermissionRead)

    @post(guards=[requires(Permission.USERS_UPDATE), recently_authenticated])
    def create_user_permission(
        self, user_id: FromPath[UUID], data: JSONBody[PermissionCreate], grants: GrantService, me: CurrentUser
    ) -> PermissionRead:
        """Give a permission to somebody else, or withhold it.

        You must hold it yourself. With `object_id`, it is for that object only. Needs a recent sign-in.
        """
        return PermissionRead.of(grants.grant_to_user(user_id, data, by=me))

    @delete("/{permission_id:uuid}", guards=[requires(Permission.USERS_UPDATE), recently_authenticated])
    def delete_user_permission(
        self, user_id: FromPath[UUID], permission_id: FromPath[UUID], grants: GrantService, me: CurrentUser
    ) -> None:
        """Take a permission from somebody else. Needs a recent sign-in."""
        grants.take_from_user(user_id, permission_id, by=me)
