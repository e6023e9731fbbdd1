"""What guards and services ask: whether somebody may do something, by the policy as it is now."""

from enum import StrEnum

from litestar.di import NamedDependency
from sqlalchemy import ColumnElement, false, true

from app.lib.access.guards import Principal
from app.lib.access.policy import Policy
from app.lib.access.resources import attributes_of, columns_of
from app.lib.db.models import Model
from app.lib.errors import PermissionDeniedError


class AccessControl:
    """The policy of the moment, of which there is one in each process. Superusers may do everything, and an API key
    nothing beyond its scopes. Every method may be called from any thread, and none waits for anything."""

    def __init__(self) -> None:
        self.policy = Policy()
        """Replaced as a whole. Take it once where two answers must not contradict each other."""

    def may(self, user: Principal, permission: StrEnum) -> bool:
        """Whether there is anything that they may do this to: what a guard can know, which has no object yet."""
        return user.has_scope(permission) and (user.is_superuser or self.policy.may(user.id, permission))

    def allows(self, user: Principal, permission: StrEnum, row: Model) -> bool:
        if not user.has_scope(permission):
            return False
        return user.is_superuser or self.policy.allows(user.id, permission, attributes_of(row))

    def check(self, user: Principal, permission: StrEnum, row: Model) -> None:
        """Raises PermissionDeniedError."""
        if not self.allows(user, permission, row):
            raise PermissionDeniedError(permission=permission, attributes=attributes_of(row))

    def has_role(self, user: Principal, role: str) -> bool:
        """Given, inherited by another role, or everyone's. Superusers have all; no API key has any."""
        return user.scopes is None and (user.is_superuser or role in self.policy.roles_of(user.id))

    def where(self, user: Principal, permission: StrEnum, model: type[Model]) -> ColumnElement[bool]:
        """The rows to which they may do it, as `allows` says one by one: so that no list shows what a GET refuses."""
        if not user.has_scope(permission):
            return false()
        if user.is_superuser:
            return true()
        return self.policy.where(user.id, permission, columns_of(model))

    def unless_denied(self, user: Principal, permission: StrEnum, model: type[Model]) -> ColumnElement[bool]:
        """The rows for which it is not withheld from them, whether or not it is given to them: for what may be seen
        because something else may be done to it."""
        return true() if user.is_superuser else self.policy.unless_denied(user.id, permission, columns_of(model))


Access = NamedDependency[AccessControl]
