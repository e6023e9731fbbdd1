from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from uuid import UUID

from sqlalchemy import ColumnElement, delete, select
from uuid_utils.compat import uuid7

from app.domain.access.errors import NotHeldError, OutrankedError, OwnRightsError
from app.domain.access.models import Permission, Role, RoleAssignment, RoleParent
from app.domain.access.services import PolicyService, refuse_outranked
from app.domain.accounts.models import is_not_closed
from app.domain.audit.models import Action
from app.domain.audit.services import AuditService
from app.domain.roles.errors import (
    EverybodysRoleError,
    ProtectedRoleError,
    RoleCircleError,
    RoleExistsError,
    TooDeepRolesError,
)
from app.domain.roles.schemas import RoleCreate
from app.domain.users.models import User
from app.lib.access.authority import Authority
from app.lib.access.control import AccessControl
from app.lib.access.guards import Principal
from app.lib.access.policy import ADMIN, EVERYONE
from app.lib.db.service import Repository, Service
from app.lib.errors import InvalidInputError, NotFoundError

MAX_LEVELS = 10
"""From a role to the farthest from which it inherits, both counted."""


class RoleService(Service[Role]):
    """Roles, and what they inherit. Every change begins in `PolicyService`: there are no two at a time.

    `by` is who asks, None for an operator. Every method raises PermissionDeniedError for somebody who may not change
    the role, has it themselves, may do less than somebody who has it, or lacks some of what is in it or would be.
    """

    class Repo(Repository[Role]):
        model_type = Role

    repository_type = Repo

    def find(self, name: str, *where: ColumnElement[bool]) -> Role:
        """Raises NotFoundError."""
        is_storable = "\0" not in name  # PostgreSQL could not even compare it
        if is_storable and (role := self.get_one_or_none(Role.name == name, *where)):
            return role
        raise NotFoundError("There is no such role.")

    def create_role(self, data: RoleCreate, *, by: Principal | None) -> Role:
        """Raises RoleExistsError, InvalidInputError for a parent that is none, TooDeepRolesError."""
        authority = self._policies.begin_change_by(by)
        role = Role(id=uuid7(), name=data.name, description=data.description)
        authority.check(Permission.ROLES_CREATE, role)
        if self.exists(Role.name == data.name):
            raise RoleExistsError
        self.create(role)
        self._record(Action.ROLE_CREATED, role)
        for parent in dict.fromkeys(data.parents):
            self._link(role, self._parent(parent), authority)
        self._refuse_depth()
        return self._fresh(role)

    def remove_role(self, name: str, *, by: Principal | None) -> None:
        """With its permissions; whoever had it has it no more. Raises NotFoundError, ProtectedRoleError."""
        role, _ = self.begin_change(name, by=by, permission=Permission.ROLES_DELETE)
        if name in {ADMIN, EVERYONE}:
            raise ProtectedRoleError
        self._record(Action.ROLE_DELETED, role)
        self.remove(role)

    def add_parent(self, name: str, parent: str, *, by: Principal | None) -> Role:
        """Nothing happens when it is one already. Raises NotFoundError, RoleCircleError, TooDeepRolesError."""
        authority = self._policies.begin_change_by(by)
        role, above = self.find(name), self.find(parent)
        self._refuse_change(role, authority)
        self._link(role, above, authority)
        self._refuse_depth()
        return self._fresh(role)

    def remove_parent(self, name: str, parent: str, *, by: Principal | None) -> None:
        """Raises NotFoundError, also when it is none."""
        authority = self._policies.begin_change_by(by)
        role, above = self.find(name), self.find(parent)
        self._refuse_change(role, authority)
        link = delete(RoleParent).where(RoleParent.role_id == role.id, RoleParent.parent_id == above.id)
        if self.session.scalar(link.returning(RoleParent.id)) is None:
            raise NotFoundError
        self._record(Action.ROLE_PARENT_REMOVED, role, parent=parent)

    def begin_change(
        self, name: str, *, by: Principal | None, permission: Permission = Permission.ROLES_UPDATE
    ) -> tuple[Role, Authority]:
        """The role, and what the one who asks may give and take. Raises NotFoundError, PermissionDeniedError."""
        authority = self._policies.begin_change_by(by)
        role = self.find(name)
        self._refuse_change(role, authority, permission=permission)
        return role, authority

    def _refuse_change(
        self, role: Role, authority: Authority, *, permission: Permission = Permission.ROLES_UPDATE
    ) -> None:
        """Raises PermissionDeniedError, also for a role that may do more than they: otherwise they could withhold from
        those above them what they hold themselves. Superusers have no more to gain, so they change what everybody has.
        """
        authority.check(permission, role)
        if authority.has_role(role.name) and not authority.is_unlimited:
            raise OwnRightsError
        if not authority.covers_role(role.name):
            raise NotHeldError
        if not authority.covers_holders(role.name):
            raise OutrankedError("Somebody who has this role may do more than you.")

    @property
    def _policies(self) -> PolicyService:
        return PolicyService(self.session)

    def _link(self, role: Role, parent: Role, authority: Authority) -> None:
        if not authority.covers_role(parent.name):
            raise NotHeldError
        if role.name in authority.policy.roles_within([parent.name]):
            raise RoleCircleError
        if parent.name not in authority.policy.parents_of(role.name):
            self.session.add(RoleParent(role_id=role.id, parent_id=parent.id, granted_by=authority.user_id))
            self._record(Action.ROLE_PARENT_ADDED, role, parent=parent.name)

    def _record(self, action: Action, role: Role, **what: object) -> None:
        AuditService(self.session).record(action, subject=role, details={"role": role.name, **what})

    def _parent(self, name: str) -> Role:
        if found := self.get_one_or_none(Role.name == name):
            return found
        raise InvalidInputError(f"There is no role {name!r}.", field="parents")

    def _refuse_depth(self) -> None:
        self.session.flush()
        links: dict[UUID, set[UUID]] = {}
        for role_id, parent_id in self.session.execute(select(RoleParent.role_id, RoleParent.parent_id)):
            links.setdefault(role_id, set()).add(parent_id)
        if has_more_levels(links, MAX_LEVELS):
            raise TooDeepRolesError

    def _fresh(self, role: Role) -> Role:
        self.session.refresh(role, ["inherited"])
        return role


class AssignmentService(Service[RoleAssignment]):
    """Who has which role. As for `RoleService`; nobody changes their own, superusers included."""

    class Repo(Repository[RoleAssignment]):
        model_type = RoleAssignment

    repository_type = Repo

    def assign(self, user_id: UUID, name: str, *, by: Principal | None) -> RoleAssignment:
        """Nothing happens when they have it already. Raises NotFoundError, EverybodysRoleError."""
        authority = self.begin_change(user_id, by=by)
        role = self._find_role(name, authority)
        if found := self.get_one_or_none(RoleAssignment.user_id == user_id, RoleAssignment.role_id == role.id):
            return found
        self._record(Action.ROLE_GIVEN, user_id, role)
        return self.create(RoleAssignment(user_id=user_id, role_id=role.id, granted_by=authority.user_id, role=role))

    def withdraw(self, user_id: UUID, name: str, *, by: Principal | None) -> None:
        """Raises NotFoundError, also when they do not have it; EverybodysRoleError."""
        authority = self.begin_change(user_id, by=by)
        role = self._find_role(name, authority)
        found = self.get_one_or_none(RoleAssignment.user_id == user_id, RoleAssignment.role_id == role.id)
        if found is None:
            raise NotFoundError("They do not have this role.")
        self.remove(found)
        self._record(Action.ROLE_TAKEN, user_id, role)

    def find_visible_user(self, user_id: UUID, me: Principal, access: AccessControl) -> User:
        """Somebody whose rights are looked at, which is recorded. Raises NotFoundError."""
        user = self._find_user(user_id, access.where(me, Permission.USERS_READ, User))
        AuditService(self.session).record(Action.USER_READ, subject=user)
        return user

    def begin_change(self, user_id: UUID, *, by: Principal | None) -> Authority:
        """Of the rights of somebody else. Returns what the one who asks may give and take. Raises NotFoundError,
        PermissionDeniedError."""
        authority = PolicyService(self.session).begin_change_by(by)
        user = self._find_user(user_id)
        authority.check(Permission.USERS_UPDATE, user)
        if authority.user_id == user_id:
            raise OwnRightsError
        refuse_outranked(authority, user)
        return authority

    def _find_user(self, user_id: UUID, *where: ColumnElement[bool]) -> User:
        user = self.session.scalar(select(User).where(User.id == user_id, is_not_closed(), *where))
        if user is None:
            raise NotFoundError
        return user

    def _record(self, action: Action, user_id: UUID, role: Role) -> None:
        AuditService(self.session).record(action, subject=("user", user_id), details={"role": role.name})

    def _find_role(self, name: str, authority: Authority) -> Role:
        role = RoleService(self.session).find(name)
        if name == EVERYONE:
            raise EverybodysRoleError
        if not authority.covers_role(name):
            raise NotHeldError
        return role


def has_more_levels(links: Mapping[UUID, Iterable[UUID]], most: int) -> bool:
    """A circle has no end of them."""
    level: AbstractSet[UUID] = set(links)
    for _ in range(most):
        level = {parent for role in level for parent in links.get(role, ())}
    return bool(level)
