from uuid import UUID

from sqlalchemy import ColumnElement

from app.domain.access.errors import NotHeldError
from app.domain.access.models import PermissionGrant, permission_of
from app.domain.audit.models import Action
from app.domain.audit.services import AuditService
from app.domain.grants.errors import GrantExistsError
from app.domain.grants.schemas import PermissionCreate
from app.domain.roles.services import AssignmentService, RoleService
from app.lib.access.authority import Authority
from app.lib.access.expressions import ExpressionError, parse
from app.lib.access.guards import Principal
from app.lib.access.policy import Grant
from app.lib.access.resources import attribute_types
from app.lib.db.service import Repository, Service
from app.lib.errors import InvalidInputError

PLACE = ("role_id", "user_id", "resource", "action")
"""Whose permission a grant is, and which."""
TERMS = ("object_id", "rule", "effect")
"""What it says of that."""
MAX_RULES = 100
"""Of one subject for one permission: lists ask PostgreSQL about each."""


class GrantService(Service[PermissionGrant]):
    """Permissions of roles and of single users. As for `RoleService`; nobody changes their own."""

    class Repo(Repository[PermissionGrant]):
        model_type = PermissionGrant

    repository_type = Repo

    def grant_to_role(self, name: str, data: PermissionCreate, *, by: Principal | None) -> PermissionGrant:
        """Raises NotFoundError, InvalidInputError, GrantExistsError."""
        role, authority = RoleService(self.session).begin_change(name, by=by)
        return self._grant(data, authority, role_id=role.id)

    def take_from_role(self, name: str, grant_id: UUID, *, by: Principal | None) -> None:
        """Raises NotFoundError."""
        role, authority = RoleService(self.session).begin_change(name, by=by)
        self._take(authority, PermissionGrant.id == grant_id, PermissionGrant.role_id == role.id)

    def grant_to_user(self, user_id: UUID, data: PermissionCreate, *, by: Principal | None) -> PermissionGrant:
        """Raises NotFoundError, InvalidInputError, GrantExistsError."""
        authority = AssignmentService(self.session).begin_change(user_id, by=by)
        return self._grant(data, authority, user_id=user_id)

    def take_from_user(self, user_id: UUID, grant_id: UUID, *, by: Principal | None) -> None:
        """Raises NotFoundError."""
        authority = AssignmentService(self.session).begin_change(user_id, by=by)
        self._take(authority, PermissionGrant.id == grant_id, PermissionGrant.user_id == user_id)

    def _grant(
        self, data: PermissionCreate, authority: Authority, *, role_id: UUID | None = None, user_id: UUID | None = None
    ) -> PermissionGrant:
        permission_of(data.resource, data.action)
        row = PermissionGrant(
            role_id=role_id,
            user_id=user_id,
            resource=data.resource,
            action=data.action,
            object_id=data.object_id,
            rule=_rule_of(data),
            effect=data.effect,
            granted_by=authority.user_id,
        )
        _refuse_unheld(authority, row)
        beside = _agrees_with(row, *PLACE)
        if row.rule is not None and self.count(*beside, PermissionGrant.rule.is_not(None)) >= MAX_RULES:
            raise InvalidInputError(f"There are {MAX_RULES} rules on this permission already.", field="rule")
        if self.exists(*_agrees_with(row, *PLACE, *TERMS)):
            raise GrantExistsError
        self._record(Action.PERMISSION_GIVEN, row)
        return self.create(row)

    def _take(self, authority: Authority, *where: ColumnElement[bool]) -> None:
        row = self.get_one(*where)
        _refuse_unheld(authority, row)
        self._record(Action.PERMISSION_TAKEN, row)
        self.remove(row)

    def _record(self, action: Action, row: PermissionGrant) -> None:
        subject = ("role", row.role_id) if row.role_id else ("user", row.user_id)
        what = {name: getattr(row, name) for name in ("resource", "action", *TERMS)}
        AuditService(self.session).record(action, subject=subject, details=what)


def _rule_of(data: PermissionCreate) -> str | None:
    """Raises InvalidInputError. Where there are no objects, nobody would ask for the rule or the object."""
    attributes = attribute_types(data.resource)
    for field, value in (("object_id", data.object_id), ("rule", data.rule)):
        if value is not None and not attributes:
            raise InvalidInputError(f"{data.resource} have no objects to which this could apply.", field=field)
    if data.rule is None:
        return None
    try:
        parse(data.rule, attributes)
    except ExpressionError as error:
        raise InvalidInputError(str(error), field="rule") from error
    return data.rule.strip()


def _refuse_unheld(authority: Authority, row: PermissionGrant) -> None:
    grant = Grant(row.id, "", f"{row.resource}:{row.action}", row.object_id, row.rule, row.effect)
    if not authority.covers([grant]):
        raise NotHeldError


def _agrees_with(row: PermissionGrant, *names: str) -> list[ColumnElement[bool]]:
    return [getattr(PermissionGrant, name).is_not_distinct_from(getattr(row, name)) for name in names]
