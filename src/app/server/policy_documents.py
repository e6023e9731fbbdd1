"""A policy as a file: what `litestar access export` prints, and `litestar access diff` compares with."""

from typing import Literal
from uuid import UUID

import msgspec
from msgspec import Struct
from sqlalchemy import select
from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from app.domain.access.models import PermissionGrant, Role, RoleAssignment, permission_of
from app.lib.access.expressions import parse
from app.lib.access.policy import Grant, Policy
from app.lib.access.resources import attribute_types
from app.lib.errors import InvalidInputError


class GrantDocument(Struct, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    resource: str
    action: str
    object_id: UUID | None = None
    rule: str | None = None
    effect: Literal["allow", "deny"] = "allow"

    def grant_to(self, subject: str) -> Grant:
        """Raises InvalidInputError and ExpressionError."""
        if self.rule is not None:
            parse(self.rule, attribute_types(self.resource))
        return Grant(
            uuid7(), subject, permission_of(self.resource, self.action), self.object_id, self.rule, self.effect
        )


class HolderDocument(Struct, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """A user: the roles that were given to them, and the permissions beside those."""

    roles: list[str] = []
    permissions: list[GrantDocument] = []


class RoleDocument(Struct, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    description: str = ""
    parents: list[str] = []
    permissions: list[GrantDocument] = []


class PolicyDocument(Struct, forbid_unknown_fields=True, kw_only=True):
    roles: dict[str, RoleDocument]
    users: dict[UUID, HolderDocument] = {}

    @classmethod
    def stored(cls, session: Session) -> "PolicyDocument":
        by_id = {role.id: role for role in session.scalars(select(Role).order_by(Role.name))}
        roles = {
            role.name: RoleDocument(description=role.description, parents=role.parents, permissions=[])
            for role in by_id.values()
        }
        users: dict[UUID, HolderDocument] = {}
        for assignment in session.scalars(select(RoleAssignment).order_by(RoleAssignment.id)):
            holder = users.setdefault(assignment.user_id, HolderDocument(roles=[], permissions=[]))
            holder.roles.append(assignment.name)
        for row in session.scalars(select(PermissionGrant).order_by(PermissionGrant.id)):
            found = msgspec.convert(row, GrantDocument, from_attributes=True)
            if row.role_id:
                roles[by_id[row.role_id].name].permissions.append(found)
            elif row.user_id:
                users.setdefault(row.user_id, HolderDocument(roles=[], permissions=[])).permissions.append(found)
        return cls(roles=roles, users=users)

    def policy(self) -> Policy:
        """Raises InvalidInputError and ExpressionError for what no such policy could say."""
        named = {name for role in self.roles.values() for name in role.parents}
        named |= {name for user in self.users.values() for name in user.roles}
        if unknown := sorted(named - self.roles.keys()):
            raise InvalidInputError(f"There is no role {unknown[0]!r} in it.", field="roles")
        holders = [(f"role:{name}", role.permissions) for name, role in self.roles.items()]
        holders += [(f"user:{user_id}", user.permissions) for user_id, user in self.users.items()]
        return Policy(
            grants=[given.grant_to(subject) for subject, permissions in holders for given in permissions],
            parents={name: frozenset(role.parents) for name, role in self.roles.items()},
            assignments={user_id: frozenset(user.roles) for user_id, user in self.users.items()},
        )
