"""The policy as an operator at the command line looks at it."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
from litestar import Litestar
from sqlalchemy import Row, select
from sqlalchemy.orm import Session

from app.domain.access.models import Permission, permission_of
from app.domain.access.schemas import ExplanationCreate, ExplanationRead
from app.domain.access.services import ExplanationService, PolicyService
from app.domain.audit.models import AuditEvent
from app.domain.users.models import User
from app.domain.users.services import UserService
from app.lib.access.expressions import ExpressionError, parse
from app.lib.access.guards import guarded_routes, scope_of
from app.lib.access.policy import ALLOW, Policy
from app.lib.access.resources import attribute_types, typed
from app.lib.db.database import Database
from app.lib.errors import InvalidInputError, NotFoundError
from app.server.policy_documents import GrantDocument, PolicyDocument

DECISIONS = (
    select(AuditEvent.actor_id, User.email, AuditEvent.permission, AuditEvent.attributes)
    .distinct()
    .join(User, User.id == AuditEvent.actor_id)
    .where(AuditEvent.permission.in_(list(Permission)), User.is_active, User.is_superuser.is_(False))
)


class AuditedRoute(NamedTuple):
    """`rule`: what the caller must be or have; `scope`: what an API key needs, None where none is accepted."""

    method: str
    path: str
    rule: str
    scope: str | None


class Flip(NamedTuple):
    """A decision that the audit log knows, and that another policy would decide otherwise."""

    email: str
    permission: str
    attributes: Mapping[str, Any] | None
    is_allowed: bool
    """By the policy that is stored."""


class AccessInspection:
    """Found by the command line in `app.state.access_inspection`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def routes(self, app: Litestar) -> list[AuditedRoute]:
        """Raises UndeclaredAccessError."""
        return [
            AuditedRoute(
                route.method,
                route.path,
                " and ".join(rule.name for rule in route.rules),
                scope_of(route.handler, route.method),
            )
            for route in guarded_routes(app)
        ]

    def gaps(self, app: Litestar) -> list[str]:
        """What makes a route or a permission useless, or lets nobody know who may do something."""
        stored = self._database.read(PolicyDocument.stored)
        required = {rule.permission for route in guarded_routes(app) for rule in route.rules if rule.permission}
        granted = {f"{given.resource}:{given.action}" for _, given in _grants(stored) if given.effect == ALLOW}
        return [
            *(f"{permission} is required by a route and given to nobody" for permission in sorted(required - granted)),
            *(f"{permission} is required by no route" for permission in Permission if permission not in required),
            *(f"{holder}: {problem}" for holder, given in _grants(stored) if (problem := _problem_of(given))),
        ]

    def explain(self, who: str, resource: str, action: str, object_id: UUID | None) -> ExplanationRead:
        """`who`: an id or an address. Raises NotFoundError, InvalidInputError."""

        def explain(session: Session) -> ExplanationRead:
            question = ExplanationCreate(
                user_id=_find_user(session, who).id, resource=resource, action=action, object=object_id
            )
            return ExplanationService(session).explain(question, PolicyService(session).load())

        return self._database.write(explain)

    def export(self) -> bytes:
        """JSON."""
        return msgspec.json.format(msgspec.json.encode(self._database.read(PolicyDocument.stored)))

    def flips(self, document: bytes) -> list[Flip]:
        """The decisions in the audit log that the policy in this document would decide otherwise than the stored one.

        Of people who are active and no superusers. Raises InvalidInputError when it is no policy.
        """
        other = _policy_in(document)

        def compare(session: Session) -> list[Flip]:
            current = PolicyService(session).load()
            decisions = [(row, _decide(current, row), _decide(other, row)) for row in session.execute(DECISIONS)]
            return [
                Flip(row.email, row.permission, row.attributes, is_allowed)
                for row, is_allowed, would_be in decisions
                if is_allowed != would_be
            ]

        return sorted(self._database.read(compare), key=str)


def _policy_in(document: bytes) -> Policy:
    try:
        return msgspec.json.decode(document, type=PolicyDocument).policy()
    except (msgspec.ValidationError, msgspec.DecodeError, ExpressionError) as error:
        raise InvalidInputError(f"This is not a policy: {error}", field="file") from error


def _decide(policy: Policy, row: Row[Any]) -> bool:
    """As it was asked: about an object, or about anything."""
    resource = Permission(row.permission).resource
    if not row.attributes or not attribute_types(resource):
        return policy.may(row.actor_id, row.permission)
    return policy.allows(row.actor_id, row.permission, typed(resource, row.attributes))


def _grants(stored: PolicyDocument) -> Iterator[tuple[str, GrantDocument]]:
    for name, role in stored.roles.items():
        yield from ((f"role {name}", given) for given in role.permissions)
    for user_id, user in stored.users.items():
        yield from ((f"user {user_id}", given) for given in user.permissions)


def _problem_of(given: GrantDocument) -> str | None:
    """Why a grant that somebody wrote into the table can never apply as it says."""
    name = f"{given.resource}:{given.action}"
    try:
        permission_of(given.resource, given.action)
        attributes = attribute_types(given.resource)
        if given.rule is not None:
            parse(given.rule, attributes)
    except InvalidInputError:
        return f"{name} is no permission"
    except ExpressionError as error:
        return f"the rule of {name} cannot be read: {str(error).removesuffix('.')}"
    is_conditional = given.rule is not None or given.object_id is not None
    return (
        f"{name} has a condition, but {given.resource} have no objects" if is_conditional and not attributes else None
    )


def _find_user(session: Session, who: str) -> User:
    try:
        found = session.get(User, UUID(who))
    except ValueError:
        found = UserService(session).find_by_email(who)
    if found is None:
        raise NotFoundError("There is no such user.")
    return found
