from collections import defaultdict
from collections.abc import Mapping
from itertools import chain
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import and_, delete, or_, select, text

from app.domain.access.errors import OutrankedError
from app.domain.access.models import Permission, PermissionGrant, PolicyVersion, RoleAssignment, permission_of
from app.domain.access.schemas import ExplanationCreate, ExplanationRead, HeldRoleRead, MyPermissionsRead, RuleRead
from app.domain.accounts.models import is_not_closed
from app.domain.audit.models import Action
from app.domain.audit.services import AuditService
from app.domain.users.errors import LastAdministratorError
from app.domain.users.models import User
from app.lib.access.authority import Authority
from app.lib.access.control import AccessControl
from app.lib.access.expressions import Attributes
from app.lib.access.guards import Principal
from app.lib.access.policy import DENY, EVERYONE, Grant, Policy
from app.lib.access.resources import attribute_types, attributes_of, models, typed
from app.lib.db.service import Repository, Service
from app.lib.db.unit_of_work import AnySession
from app.lib.errors import InvalidInputError, NotFoundError, PermissionDeniedError
from app.lib.events import publish

POLICY_CHANGED = "policy"
"""The topic on which every process hears that its policy is out of date."""

_VERSION = select(PolicyVersion.number)
_POLICY = text("""
    SELECT 'version', NULL::uuid, number::text, NULL, NULL::uuid, NULL, NULL FROM policy_versions
    UNION ALL
    SELECT 'parent', NULL, role.name, parent.name, NULL, NULL, NULL
    FROM role_parents JOIN roles role ON role.id = role_id JOIN roles parent ON parent.id = parent_id
    UNION ALL
    SELECT 'assignment', user_id, name, NULL, NULL, NULL, NULL
    FROM role_assignments JOIN roles ON roles.id = role_id
    UNION ALL
    SELECT 'grant', permission_grants.id, coalesce('role:' || name, 'user:' || user_id),
        resource || ':' || action, object_id, rule, effect
    FROM permission_grants LEFT JOIN roles ON roles.id = role_id
""")
"""All in one statement: of two, the second could see a change of which the first saw nothing."""
BATCH = 500
"""Rows that the driver makes in one go, in which no other thread of the process runs."""


class PolicyService(Service[PolicyVersion]):
    """The policy as it is stored."""

    class Repo(Repository[PolicyVersion]):
        model_type = PolicyVersion

    repository_type = Repo

    def version(self) -> int:
        return self.session.scalars(_VERSION).one()

    def load(self) -> Policy:
        version, grants = 0, []
        parents: dict[str, set[str]] = defaultdict(set)
        assignments: dict[UUID, set[str]] = defaultdict(set)
        rows = chain.from_iterable(self.session.execute(_POLICY).partitions(BATCH))
        for kind, id_, one, other, object_id, rule, effect in rows:
            match kind:
                case "version":
                    version = int(one)
                case "parent":
                    parents[one].add(other)
                case "assignment":
                    assignments[id_].add(one)
                case _:
                    grants.append(Grant(id_, one, other, object_id, rule, effect))
        return Policy(version=version, grants=grants, parents=parents, assignments=_shared(assignments))

    def begin_change(self) -> Policy:
        """The policy as it is now; nobody else changes it before this transaction ends. Otherwise somebody could grant
        what is being taken from them, and two changes could close a circle. Every process hears of the change."""
        number = self.lock_changes()
        publish(self.session, POLICY_CHANGED, "changed")
        return self._numbered(number)

    def begin_change_by(self, by: Principal | None) -> Authority:
        """Begin a change. Returns what the one who asks may give and take by the policy as it is now, whatever their
        token says. None: an operator at a command line. Raises PermissionDeniedError."""
        policy = self.begin_change()
        return _authority_of(by, _kept(self.session, by), policy)

    def hold(self) -> Policy:
        """The policy as it is now, which nobody changes before this transaction ends. Ask for it before any lock on a
        user: whoever changes the policy locks it first, too."""
        return self._numbered(self.session.scalars(_VERSION.with_for_update(read=True)).one())

    def lock_changes(self) -> int:
        """Nobody else changes the policy, or holds it, before this transaction ends. As `hold`, without reading it.
        Returns its number."""
        return self.session.scalars(_VERSION.with_for_update()).one()

    def forget(self, user_id: UUID) -> None:
        """Take all roles and permissions from somebody whose account goes. `lock_changes` before."""
        gone = [
            self.session.scalars(delete(model).where(model.user_id == user_id).returning(model.id)).all()
            for model in (RoleAssignment, PermissionGrant)
        ]
        if any(gone):
            publish(self.session, POLICY_CHANGED, "changed")

    def _numbered(self, number: int) -> Policy:
        """That of this process, when it is the same: to read a large one takes 0.1 s, for which all others wait."""
        access: AccessControl | None = self.session.info.get("access")
        known = access.policy if access else None
        return known if known and known.version == number else self.load()


class AccountAccessService(Service[User]):
    """Who may change an account: nobody whom that would give more than they hold."""

    class Repo(Repository[User]):
        model_type = User

    repository_type = Repo

    def lock_account(
        self,
        user_id: UUID,
        *,
        by: Principal | None,
        permission: Permission = Permission.USERS_UPDATE,
        removes_administrator: bool = False,
        makes_administrator: bool = False,
    ) -> User:
        """An account, which nobody else can change before this transaction ends. Raises NotFoundError,
        PermissionDeniedError, OutrankedError, LastAdministratorError.

        `by` must have the permission still. None: its owner, or an operator at a command line.
        """
        policy, people = self._lock_people(by, user_id)
        user = self.session.scalar(select(User).where(User.id == user_id, is_not_closed()))
        if user is None:
            raise NotFoundError
        is_last = [one.id for one in people.values() if one.is_superuser and one.is_active] == [user_id]
        if removes_administrator and is_last and (by is None or by.is_superuser):
            raise LastAdministratorError
        authority = _authority_of(by, people.get(by.id) if by else None, policy)
        if by is not None:
            authority.check(permission, user)
            refuse_outranked(authority, user)
        if makes_administrator and not authority.is_unlimited:
            raise OutrankedError
        return user

    def authority_to_create(self, by: Principal | None) -> Authority:
        """What the one who makes an account may do, whatever their token says. Raises PermissionDeniedError."""
        policy = self._policy_for(by)
        return _authority_of(by, _kept(self.session, by), policy)

    def _policy_for(self, by: Principal | None) -> Policy:
        """It stays as it is. Superusers and operators are asked for nothing that it could say."""
        return Policy() if by is None or by.is_superuser else PolicyService(self.session).hold()

    def _lock_people(self, by: Principal | None, user_id: UUID) -> tuple[Policy, Mapping[UUID, User]]:
        """All administrators, who asks, and whom it is about, in one order, so that of two who demote each other the
        second waits. The policy is locked first, as whoever changes it does."""
        policy = self._policy_for(by)
        wanted = {user_id, by.id if by else user_id}
        is_wanted = or_(and_(User.is_superuser, User.is_active), User.id.in_(wanted))
        rows = select(User).where(is_wanted).order_by(User.id).with_for_update(key_share=True)
        found = self.session.scalars(rows, execution_options={"populate_existing": True})
        return policy, {user.id: user for user in found}


class ExplanationService(Service[User]):
    """Why somebody may do something, or may not."""

    class Repo(Repository[User]):
        model_type = User

    repository_type = Repo

    def explain(self, question: ExplanationCreate, policy: Policy) -> ExplanationRead:
        """Raises NotFoundError for a user or an object that does not exist, InvalidInputError."""
        permission = permission_of(question.resource, question.action)
        user = self.get_one_or_none(User.id == question.user_id, is_not_closed())
        if user is None:
            raise NotFoundError("There is no such user.")
        attributes = self._attributes_of(question)
        what = {"permission": permission, "object": attributes}
        AuditService(self.session).record(Action.ACCESS_EXPLAINED, subject=user, details=what)
        if user.is_superuser or not user.is_active:
            reason: Any = "superuser" if user.is_active else "inactive"
            return ExplanationRead(allowed=user.is_active, reason=reason, matched=[], roles=[])
        decision = policy.explain(user.id, permission, attributes)
        is_denied = any(grant.effect == DENY for grant in decision.matched)
        return ExplanationRead(
            allowed=decision.is_allowed,
            reason="granted" if decision.is_allowed else "denied" if is_denied else "no_rule",
            matched=[RuleRead.of(grant) for grant in decision.matched],
            roles=list(decision.roles),
        )

    def _attributes_of(self, question: ExplanationCreate) -> Attributes | None:
        """Of the object in question, as rules see it."""
        if question.object is None:
            return None
        if not attribute_types(question.resource):
            raise InvalidInputError(f"{question.resource} have no objects.", field="object")
        if isinstance(question.object, dict):
            return _typed(question.resource, question.object)
        row = self.session.get(models()[question.resource], question.object)
        if row is None:
            raise NotFoundError("There is no such object.")
        return attributes_of(row)


def _shared(assignments: Mapping[UUID, set[str]]) -> Mapping[UUID, frozenset[str]]:
    """Most people have one of a few sets of roles, of which each is kept once."""
    known: dict[frozenset[str], frozenset[str]] = {}
    frozen = ((user_id, frozenset(roles)) for user_id, roles in assignments.items())
    return {user_id: known.setdefault(roles, roles) for user_id, roles in frozen}


def _kept(session: AnySession, by: Principal | None) -> User | None:
    """The row of the one who asks, which nobody changes before this transaction ends."""
    if by is None:
        return None
    actor = select(User).where(User.id == by.id).with_for_update(read=True)
    return session.scalar(actor, execution_options={"populate_existing": True})


def _authority_of(by: Principal | None, actor: User | None, policy: Policy) -> Authority:
    """`actor`: the row of the one who asks, locked. Raises PermissionDeniedError when it does not say any more what the
    token says. None: an operator at a command line."""
    if by is None:
        return Authority(policy, None, is_unlimited=True)
    if actor is None or not actor.is_active or (by.is_superuser and not actor.is_superuser):
        raise PermissionDeniedError
    return Authority(policy, by.id, is_unlimited=actor.is_superuser)


def refuse_outranked(authority: Authority, user: User) -> None:
    """Whoever changes an account can make it theirs. Raises OutrankedError for one that may do more than they."""
    is_theirs = authority.is_unlimited or authority.user_id == user.id
    if not is_theirs and (user.is_superuser or not authority.covers_user(user.id)):
        raise OutrankedError


def permissions_of(me: Principal, policy: Policy) -> MyPermissionsRead:
    given, names = policy.roles_given_to(me.id), policy.roles_of(me.id)
    return MyPermissionsRead(
        is_superuser=me.is_superuser,
        roles=[
            HeldRoleRead(
                name=name,
                source="assignment" if name in given else "everyone" if name == EVERYONE else "inheritance",
                through=[role for role in names if name in policy.parents_of(role)],
            )
            for name in names
        ],
        permissions=[RuleRead.of(grant) for grant in policy.grants_for(me.id)],
    )


def _typed(resource: str, values: Mapping[str, Any]) -> Attributes:
    """Raises InvalidInputError."""
    types = attribute_types(resource)
    if unknown := sorted(values.keys() - types.keys()):
        raise InvalidInputError(f"There is no {unknown[0]!r:.60}. There are: {', '.join(types)}.", field="object")
    try:
        return typed(resource, values)
    except msgspec.ValidationError as error:
        raise InvalidInputError(str(error), field="object") from error
