"""Who may do what, at one moment: immutable, asked from any thread, replaced as a whole when the policy changes.

Casbin decides; what it looks at are the rules of the subject and of their roles for one permission, found by an index.
`Enforcer.enforce` alone goes through every rule there is, and is wrong while its policy is being replaced.
"""

import logging
import threading
from collections import defaultdict
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import UUID

import casbin
from sqlalchemy import ColumnElement, and_, false, not_, or_, true

from app.lib.access.expressions import Attributes, Expression, ExpressionError, parse
from app.lib.access.resources import attribute_types

ALLOW, DENY = "allow", "deny"
EVERYONE = "everyone"
"""The role that everybody who is signed in holds."""
REMEMBERED = 100_000
"""Decisions, of which each needs about 200 bytes."""

MODEL = """
[request_definition]
r = sub, act, obj

[policy_definition]
p = sub, act, obj, rule, eft

[role_definition]
g = _, _

[policy_effect]
e = some(where (p.eft == allow)) && !some(where (p.eft == deny))

[matchers]
m = g(r.sub.name, p.sub) && r.act == p.act && covers(p.obj, r.obj) && meets(p.rule, r.sub, r.obj)
"""

logger = logging.getLogger(__name__)


class Grant(NamedTuple):
    """One rule of the policy: a permission given to, or withheld from, a role or one user.

    `subject` is `role:<name>` or `user:<id>`; `object_id`: None for all objects; `rule`: None for no condition.
    """

    id: UUID
    subject: str
    permission: str
    object_id: UUID | None = None
    rule: str | None = None
    effect: str = ALLOW

    @property
    def is_conditional(self) -> bool:
        return self.object_id is not None or self.rule is not None


class Subject(NamedTuple):
    """Who asks, as Casbin sees them: the name that rules and roles have for them, and what expressions may know."""

    name: str
    attributes: Attributes

    @classmethod
    def of(cls, user_id: UUID) -> "Subject":
        return cls(f"user:{user_id}", {"id": user_id})


@dataclass(frozen=True)
class Decision:
    """`matched`: the rules that applied, which are not one side only: a deny wins over what allows."""

    is_allowed: bool
    matched: tuple[Grant, ...]
    roles: tuple[str, ...]
    """Those through which the matched rules apply, by name."""


class Policy:
    """Roles, who holds them, and what they may do."""

    def __init__(
        self,
        *,
        version: int = 0,
        grants: Iterable[Grant] = (),
        parents: Mapping[str, AbstractSet[str]] | None = None,
        assignments: Mapping[UUID, AbstractSet[str]] | None = None,
    ) -> None:
        """`parents`: the roles whose permissions a role has, too. `assignments`: the roles given to each user."""
        self.version = version
        self._parents = parents or {}
        self._assignments = assignments or {}
        self._grants: dict[tuple[str, str], list[Grant]] = defaultdict(list)
        for grant in grants:
            self._grants[grant.subject, grant.permission].append(grant)
        self._expressions: dict[tuple[str, str], Expression | None] = {}
        self._decisions: dict[Any, bool] = {}
        self._subjects: dict[UUID, tuple[str, ...]] = {}
        self._linked: set[UUID] = set()
        self._lock = threading.Lock()
        self._enforcer = _new_enforcer(self._parents)

    def roles_of(self, user_id: UUID) -> tuple[str, ...]:
        """All of them: given, inherited, and everyone's."""
        return tuple(subject.removeprefix("role:") for subject in self._subjects_of(user_id)[1:])

    def roles_within(self, names: Iterable[str]) -> tuple[str, ...]:
        """The roles, and all whose permissions they have, each before those it inherits from."""
        found: dict[str, None] = {}
        waiting = sorted(names)
        while waiting:
            name = waiting.pop(0)
            if name not in found:
                found[name] = None
                waiting.extend(sorted(self._parents.get(name, ())))
        return tuple(found)

    def grants_of(self, *subjects: str) -> list[Grant]:
        return [grant for (subject, _), grants in self._grants.items() if subject in subjects for grant in grants]

    def may(self, user_id: UUID, permission: str) -> bool:
        """Whether there is anything that they may do this to. What they may do it to, `allows` and `where` say."""
        key = user_id, permission, None
        known = self._decisions.get(key)
        return self._decide(key, self._possible(user_id, permission), {}) if known is None else known

    def allows(self, user_id: UUID, permission: str, attributes: Attributes) -> bool:
        """Whether they may do it to the object with these attributes (`lib.access.resources.attributes_of`)."""
        key = user_id, permission, tuple(attributes.values())
        known = self._decisions.get(key)
        return self._decide(key, self._applicable(user_id, permission), attributes) if known is None else known

    def where(self, user_id: UUID, permission: str, columns: Mapping[str, Any]) -> ColumnElement[bool]:
        """`allows`, as a condition on rows whose attributes are in these columns."""
        sides: dict[str, list[ColumnElement[bool]]] = {ALLOW: [], DENY: []}
        for grant in self._applicable(user_id, permission):
            sides[grant.effect].append(self._condition(grant, user_id, columns))
        return and_(or_(false(), *sides[ALLOW]), not_(or_(false(), *sides[DENY])))

    def explain(self, user_id: UUID, permission: str, attributes: Attributes | None) -> Decision:
        """`attributes`: None asks as `may` does."""
        grants = self._possible(user_id, permission) if attributes is None else self._applicable(user_id, permission)
        with self._lock:
            matched = tuple(grant for grant in grants if self._applies(user_id, grant, attributes or {}))
            is_allowed = self._enforce(user_id, permission, attributes or {}, matched)
        names = {grant.subject for grant in matched}
        return Decision(is_allowed, matched, tuple(role for role in self.roles_of(user_id) if f"role:{role}" in names))

    def _subjects_of(self, user_id: UUID) -> tuple[str, ...]:
        """The names under which rules may apply to them: their own, then those of their roles."""
        known = self._subjects.get(user_id)
        if known is None:
            roles = self.roles_within([*self._assignments.get(user_id, ()), EVERYONE])
            known = self._subjects[user_id] = (f"user:{user_id}", *(f"role:{role}" for role in roles))
        return known

    def _applicable(self, user_id: UUID, permission: str) -> list[Grant]:
        return [grant for name in self._subjects_of(user_id) for grant in self._grants.get((name, permission), ())]

    def _possible(self, user_id: UUID, permission: str) -> list[Grant]:
        """What may allow something counts; what may deny something does not yet."""
        return [
            grant._replace(object_id=None, rule=None)
            for grant in self._applicable(user_id, permission)
            if grant.effect == ALLOW or not grant.is_conditional
        ]

    def _decide(self, key: Any, grants: list[Grant], attributes: Attributes) -> bool:
        user_id, permission = key[:2]
        with self._lock:
            decided = self._enforce(user_id, permission, attributes, grants)
        if len(self._decisions) >= REMEMBERED:
            self._decisions = {}
        self._decisions[key] = decided
        return decided

    def _applies(self, user_id: UUID, grant: Grant, attributes: Attributes) -> bool:
        return self._enforce(user_id, grant.permission, attributes, [grant._replace(effect=ALLOW)])

    def _enforce(self, user_id: UUID, permission: str, attributes: Attributes, grants: Iterable[Grant]) -> bool:
        """Call it with the lock: Casbin parses its matcher each time, which Python 3.11 cannot do in two threads."""
        rows = [[*grant[1:4], self._expression(grant), grant.effect] for grant in grants]
        if not rows:
            return False
        me = Subject.of(user_id)
        self._link(me, user_id)
        self._enforcer.model["p"]["p"].policy = rows
        allowed: bool = self._enforcer.enforce(me, permission, attributes)
        return allowed

    def _link(self, me: Subject, user_id: UUID) -> None:
        """Casbin learns which roles somebody has when it is first asked about them."""
        if user_id not in self._linked:
            for role in (*self._assignments.get(user_id, ()), EVERYONE):
                self._enforcer.get_role_manager().add_link(me.name, f"role:{role}")
            self._linked.add(user_id)

    def _condition(self, grant: Grant, user_id: UUID, columns: Mapping[str, Any]) -> ColumnElement[bool]:
        conditions = [columns["id"] == grant.object_id] if grant.object_id else []
        if expression := self._expression(grant):
            conditions.append(expression.sql(Subject.of(user_id).attributes, columns))
        return and_(true(), *conditions)

    def _expression(self, grant: Grant) -> Expression | None:
        """The condition of a grant. One that cannot be read any more lets nobody in, and keeps everybody out."""
        if grant.rule is None:
            return None
        resource, _, _ = grant.permission.partition(":")
        key = resource, grant.rule
        if key not in self._expressions:
            self._expressions[key] = _read(grant, attribute_types(resource))
        return self._expressions[key] or (NEVER if grant.effect == ALLOW else None)


NEVER = Expression(is_met=lambda *_: False, sql=lambda *_: false())


def _read(grant: Grant, attributes: Mapping[str, type]) -> Expression | None:
    try:
        return parse(grant.rule or "", attributes)
    except ExpressionError as error:
        logger.warning("rule of permission %s (%s) cannot be read: %s", grant.id, grant.permission, error)
        return None


def _new_enforcer(parents: Mapping[str, AbstractSet[str]]) -> casbin.Enforcer:
    enforcer = casbin.Enforcer(casbin.Enforcer.new_model(text=MODEL))
    enforcer.add_function("covers", _covers)
    enforcer.add_function("meets", _meets)
    roles = enforcer.get_role_manager()
    roles.max_hierarchy_level = len(parents) + 2  # it would stop looking after 10
    for role, below in parents.items():
        for parent in below:
            roles.add_link(f"role:{role}", f"role:{parent}")
    return enforcer


def _covers(object_id: UUID | None, attributes: Attributes) -> bool:
    return object_id is None or attributes.get("id") == object_id


def _meets(expression: Expression | None, me: Subject, attributes: Attributes) -> bool:
    return expression is None or expression.is_met(me.attributes, attributes)
