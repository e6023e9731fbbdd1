from uuid import UUID

from litestar import Controller
from litestar.params import FromPath, FromQuery, JSONBody

from app.domain.access.models import Permission, Role, RoleAssignment
from app.domain.roles.schemas import AssignmentRead, AssignmentSort, RoleCreate, RoleRead, RoleSort
from app.domain.roles.services import AssignmentService, RoleService
from app.lib.access.control import Access
from app.lib.access.guards import CurrentUser, recently_authenticated, requires
from app.lib.pagination import Page, PageQuery, contains
from app.lib.routing import delete, get, post, put

MAY_READ = [requires(Permission.ROLES_READ)]
MAY_CREATE = [requires(Permission.ROLES_CREATE), recently_authenticated]
MAY_UPDATE = [requires(Permission.ROLES_UPDATE), recently_authenticated]
MAY_DELETE = [requires(Permission.ROLES_DELETE), recently_authenticated]


class RoleController(Controller):
    """Whoever changes what somebody may do has just signed in, and is no program."""

    path = "/roles"
    tags = ["roles"]

    @get(guards=MAY_READ, scope="roles")
    def list_roles(
        self, roles: RoleService, access: Access, me: CurrentUser, page: PageQuery, sort: FromQuery[RoleSort] = "name"
    ) -> Page[RoleRead]:
        """List roles.

        `q` looks into names and descriptions.
        """
        mine = access.where(me, Permission.ROLES_READ, Role)
        return roles.page(mine, contains(page.q, Role.name, Role.description), page=page, sort=sort, into=RoleRead)

    @post(guards=MAY_CREATE)
    def create_role(self, data: JSONBody[RoleCreate], roles: RoleService, me: CurrentUser) -> RoleRead:
        """Make a role.

        It has the permissions of its `parents`, too. You must hold all of these. Needs a recent sign-in.
        """
        return RoleRead.of(roles.create_role(data, by=me))

    @get("/{name:str}", guards=MAY_READ, scope="roles")
    def get_role(self, name: FromPath[str], roles: RoleService, access: Access, me: CurrentUser) -> RoleRead:
        """Show a role."""
        return RoleRead.of(roles.find(name, access.where(me, Permission.ROLES_READ, Role)))

    @delete("/{name:str}", guards=MAY_DELETE)
    def delete_role(self, name: FromPath[str], roles: RoleService, me: CurrentUser) -> None:
        """Delete a role, and take it from everybody.

        `admin` and `everyone` stay. You must hold all that is in it. Needs a recent sign-in.
        """
        roles.remove_role(name, by=me)

    @put("/{name:str}/parents/{parent:str}", guards=MAY_UPDATE)
    def add_role_parent(
        self, name: FromPath[str], parent: FromPath[str], roles: RoleService, me: CurrentUser
    ) -> RoleRead:
        """Let a role have the permissions of another one, too. Needs a recent sign-in."""
        return RoleRead.of(roles.add_parent(name, parent, by=me))

    @delete("/{name:str}/parents/{parent:str}", guards=MAY_UPDATE)
    def remove_role_parent(
        self, name: FromPath[str], parent: FromPath[str], roles: RoleService, me: CurrentUser
    ) -> None:
        """Let a role no longer have the permissions of another one. Needs a recent sign-in."""
        roles.remove_parent(name, parent, by=me)


class UserRoleController(Controller):
    """No scope lets an API key give or take a role."""

    path = "/users/{user_id:uuid}/roles"
    tags = ["roles"]

    @get(guards=[requires(Permission.USERS_READ)], scope="users", records=True)
    def list_user_roles(
        self,
        user_id: FromPath[UUID],
        assignments: AssignmentService,
        access: Access,
        me: CurrentUser,
        page: PageQuery,
        sort: FromQuery[AssignmentSort] = "created_at",
    ) -> Page[AssignmentRead]:
        """List the roles that were given to somebody, without those that come with them."""
        user = assignments.find_visible_user(user_id, me, access)
        text = RoleAssignment.role.has(contains(page.q, Role.name, Role.description))
        return assignments.page(RoleAssignment.user_id == user.id, text, page=page, sort=sort, into=AssignmentRead)

    @put("/{role:str}", guards=[requires(Permission.USERS_UPDATE), recently_authenticated])
    def assign_role(
        self, user_id: FromPath[UUID], role: FromPath[str], assignments: AssignmentService, me: CurrentUser
    ) -> AssignmentRead:
        """Give somebody else a role.

        You must hold all that is in it. Needs a recent sign-in.
        """
        return AssignmentRead.of(assignments.assign(user_id, role, by=me))

    @delete("/{role:str}", guards=[requires(Permission.USERS_UPDATE), recently_authenticated])
    def withdraw_role(
        self, user_id: FromPath[UUID], role: FromPath[str], assignments: AssignmentService, me: CurrentUser
    ) -> None:
        """Take a role from somebody else.

        You must hold all that is in it. Needs a recent sign-in.
        """
        assignments.withdraw(user_id, role, by=me)
