"""Who may do what, at one moment: immutable, asked from any thread, replaced as a whole when the policy changes.

Casbin decides, about the rules of the subject and of their roles for one permission, which an index finds.
`Enforcer.enforce` alone goes through every rule there is, and is wrong while its policy is being replaced.
"""

import functools
import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import ARRAY, ColumnElement, Uuid, and_, any_, false, literal, not_, or_, true

from app.lib.access.enforcer import CasbinRule, Subject, decide
from app.lib.access.expressions import Attributes, Expression, ExpressionError, parse
from app.lib.access.resources import attribute_types

ALLOW, DENY = "allow", "deny"
EVERYONE = "everyone"
"""The role that everybody who is signed in holds."""
ADMIN = "admin"
"""The role of administrators. Like that one, it cannot be deleted."""
REMEMBERED = 20_000
"""Decisions, of which each needs about half a kilobyte."""
READ_RULES = 10_000
"""Texts whose expressions outlive their policy, because the next one has most of them, too."""

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

    @property
    def resource(self) -> str:
        return self.permission.partition(":")[0]

    @property
    def named(self) -> frozenset[UUID]:
        """The users about whom its rule says something else than about all others."""
        expression = None if self.rule is None else _read(self.resource, self.rule)
        return expression.named if expression else frozenset()


class _Rule(NamedTuple):
    """A grant as Casbin is asked about it. `exact`: for a known object; `possible`: for objects of which nothing is
    known, where what may allow something counts, and what may deny something does not (None)."""

    grant: Grant
    exact: CasbinRule
    possible: CasbinRule | None

    def asked(self, *, is_known: bool) -> CasbinRule | None:
        return self.exact if is_known else self.possible


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
        self._grants: dict[str, list[Grant]] = defaultdict(list)
        self._rules: dict[tuple[str, str], list[_Rule]] = defaultdict(list)
        for grant in grants:
            self._grants[grant.subject].append(grant)
            self._rules[grant.subject, grant.permission] += _effective(grant)
        self._decisions: dict[Any, bool] = {}

    def roles_of(self, user_id: UUID) -> tuple[str, ...]:
        """All of them: given, inherited, and everyone's."""
        return self.roles_within([*self.roles_given_to(user_id), EVERYONE])

    def roles_within(self, names: Iterable[str]) -> tuple[str, ...]:
        """The roles, and all whose permissions they have, each before those it inherits from."""
        found: dict[str, None] = {}
        waiting = sorted(names)
        while waiting:
            found |= dict.fromkeys(waiting)
            below = {parent for name in waiting for parent in self.parents_of(name)}
            waiting = sorted(below - found.keys())
        return tuple(found)

    def roles_given_to(self, user_id: UUID) -> AbstractSet[str]:
        """Without those that come with others."""
        return self._assignments.get(user_id, frozenset())

    def holders_of(self, role: str) -> list[UUID]:
        """Those who were given it, or one that inherits from it."""
        heirs = {heir for heir in (role, *self._parents) if role in self.roles_within([heir])}
        return [user_id for user_id, given in self._assignments.items() if not heirs.isdisjoint(given)]

    def parents_of(self, role: str) -> AbstractSet[str]:
        return self._parents.get(role, frozenset())

    def grants_for(self, user_id: UUID) -> list[Grant]:
        """All that may apply to them: their own, and those of their roles."""
        return self.grants_of(*self._subject(user_id).names)

    def grants_of(self, *subjects: str) -> list[Grant]:
        return [grant for subject in subjects for grant in self._grants.get(subject, ())]

    def may(self, user_id: UUID, permission: str) -> bool:
        """Whether there is anything that they may do this to. What they may do it to, `allows` and `where` say."""
        key = user_id, permission, None
        known = self._decisions.get(key)
        return self._decide(key) if known is None else known

    def allows(self, user_id: UUID, permission: str, attributes: Attributes) -> bool:
        """Whether they may do it to the object with these attributes (`lib.access.resources.attributes_of`)."""
        key = user_id, permission, tuple(attributes.items())
        known = self._decisions.get(key)
        return self._decide(key) if known is None else known

    def where(self, user_id: UUID, permission: str, columns: Mapping[str, Any]) -> ColumnElement[bool]:
        """`allows`, as a condition on rows whose attributes are in these columns."""
        allowed = self._where(user_id, permission, columns, effect=ALLOW)
        return and_(allowed, self.unless_denied(user_id, permission, columns))

    def unless_denied(self, user_id: UUID, permission: str, columns: Mapping[str, Any]) -> ColumnElement[bool]:
        """The rows for which it is not withheld from them, whether or not it is given to them."""
        return not_(self._where(user_id, permission, columns, effect=DENY))

    def _where(self, user_id: UUID, permission: str, columns: Mapping[str, Any], *, effect: str) -> ColumnElement[bool]:
        subject = self._subject(user_id)
        rules = {rule.exact.terms: rule.exact for rule in self._rules_for(subject, permission)}.values()
        return _met_by([rule for rule in rules if rule.effect == effect], subject, columns)

    def explain(self, user_id: UUID, permission: str, attributes: Attributes | None) -> Decision:
        """`attributes`: None asks as `may` does."""
        subject, known = self._subject(user_id), attributes or {}
        asked = {
            rule.grant: rule.asked(is_known=attributes is not None) for rule in self._rules_for(subject, permission)
        }
        matched = {
            grant: rule
            for grant, rule in asked.items()
            if rule and decide(subject, permission, known, [rule._replace(effect=ALLOW)])
        }
        holders = {grant.subject for grant in matched}
        return Decision(
            is_allowed=decide(subject, permission, known, list(matched.values())),
            matched=tuple(matched),
            roles=tuple(role for role in self.roles_of(user_id) if f"role:{role}" in holders),
        )

    def _subject(self, user_id: UUID) -> Subject:
        names = dict.fromkeys([f"user:{user_id}", *(f"role:{role}" for role in self.roles_of(user_id))])
        return Subject(names, {"id": user_id})

    def _rules_for(self, subject: Subject, permission: str) -> list[_Rule]:
        return [rule for name in subject.names for rule in self._rules.get((name, permission), ())]

    def _decide(self, key: tuple[UUID, str, tuple[tuple[str, Any], ...] | None]) -> bool:
        """`key` is the whole question, so that its answer can be kept."""
        user_id, permission, attributes = key
        subject = self._subject(user_id)
        rules = self._rules_for(subject, permission)
        asked = [rule.asked(is_known=attributes is not None) for rule in rules]
        known = dict(attributes or ())
        decided = decide(subject, permission, known, _distinct(asked, known.get("id")))
        if len(self._decisions) >= REMEMBERED:
            self._decisions = {}
        self._decisions[key] = decided
        return decided


def _distinct(rules: Iterable[CasbinRule | None], object_id: UUID | None) -> list[CasbinRule]:
    """Rules that differ in nothing but who holds them say the same, and those about another object say nothing."""
    found = {rule.terms: rule for rule in rules if rule and (rule.object_id is None or rule.object_id == object_id)}
    return list(found.values())


def _met_by(rules: Iterable[CasbinRule], subject: Subject, columns: Mapping[str, Any]) -> ColumnElement[bool]:
    """The rows to which some of the rules apply."""
    always = [rule.object_id for rule in rules if rule.object_id and rule.condition is None]
    others = [_condition(rule, subject, columns) for rule in rules if not rule.object_id or rule.condition]
    ids = literal(always, ARRAY(Uuid()))  # one parameter: a statement has 65 535 at most
    return or_(columns["id"] == any_(ids) if always else false(), *others)


def _condition(rule: CasbinRule, subject: Subject, columns: Mapping[str, Any]) -> ColumnElement[bool]:
    is_object = true() if rule.object_id is None else columns["id"] == rule.object_id
    return and_(is_object, true() if rule.condition is None else rule.condition.sql(subject.attributes, columns))


def _effective(grant: Grant) -> list[_Rule]:
    """A rule that cannot be read any more lets nobody in, and keeps everybody out."""
    condition = None if grant.rule is None else _read(grant.resource, grant.rule)
    if condition is None and grant.rule is not None and grant.effect == ALLOW:
        return []
    exact = CasbinRule(grant.subject, grant.permission, grant.object_id, condition, grant.effect)
    if exact.is_unconditional or not attribute_types(grant.resource):  # there is nothing more to know
        return [_Rule(grant, exact, exact)]
    some = exact._replace(object_id=None, condition=None) if grant.effect == ALLOW else None
    return [_Rule(grant, exact, some)]


@functools.lru_cache(READ_RULES)
def _read(resource: str, text: str) -> Expression | None:
    try:
        return parse(text, attribute_types(resource))
    except ExpressionError as error:
        logger.warning("a rule on %s cannot be read: %r: %s", resource, text, error)
        return None
