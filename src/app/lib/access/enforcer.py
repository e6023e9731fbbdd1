"""Casbin: what some rules say together. Which rules are worth asking about, `policy.py` knows."""

import threading
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple
from uuid import UUID

import casbin
from casbin.rbac import RoleManager

from app.lib.access.expressions import PARSING, Attributes, Expression

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
m = g(r.sub, p.sub) && r.act == p.act && covers(p.obj, r.obj) && meets(p.rule, r.sub, r.obj)
"""


class Subject(NamedTuple):
    """Who asks: the names under which rules may apply to them (theirs and those of their roles), and what
    expressions may know of them."""

    names: Collection[str]
    attributes: Attributes


class CasbinRule(NamedTuple):
    """As `policy_definition` says. `object_id`: None for every object; `condition`: None for always."""

    subject: str
    permission: str
    object_id: UUID | None
    condition: Expression | None
    effect: str

    @property
    def is_unconditional(self) -> bool:
        return self.object_id is None and self.condition is None

    @property
    def terms(self) -> tuple[UUID | None, Expression | None, str]:
        """What it says of its permission, whoever holds it."""
        return self.object_id, self.condition, self.effect


class _Names(RoleManager):  # type: ignore[misc]  # Casbin has no types
    """Casbin's `g`. Its own manager remembers everybody it was ever asked about, looks 10 roles deep, and calls
    itself once for each."""

    def clear(self) -> None:
        """There is nothing to forget."""

    def has_link(self, subject: Subject, name: str) -> bool:
        return name in subject.names


class _Casbin(casbin.Enforcer):  # type: ignore[misc]  # Casbin has no types
    """Parses its matcher once. Casbin would do it for each decision, which takes most of its time, and Python 3.11
    cannot do it in two threads at once. For one thread."""

    _matcher: Any = None

    def _get_expression(self, expr: str, functions: Any = None) -> Any:
        if self._matcher is None:
            with PARSING:
                self._matcher = super()._get_expression(expr, functions)
        return self._matcher


def decide(subject: Subject, permission: str, attributes: Attributes, rules: Sequence[CasbinRule]) -> bool:
    """Whether a rule allows it, and none denies it. Waits for no other thread."""
    if not rules:
        return False  # Casbin would ask about a rule of empty strings
    enforcer = _enforcer()
    enforcer.model["p"]["p"].policy = rules
    is_allowed: bool = enforcer.enforce(subject, permission, attributes)
    return is_allowed


_of_thread = threading.local()


def _enforcer() -> _Casbin:
    enforcer: _Casbin | None = getattr(_of_thread, "enforcer", None)
    if enforcer is None:
        enforcer = _of_thread.enforcer = _Casbin(casbin.Enforcer.new_model(text=MODEL))
        enforcer.add_function("covers", _covers)
        enforcer.add_function("meets", _meets)
        enforcer.set_role_manager(_Names())
        enforcer.build_role_links()
    return enforcer


def _covers(object_id: UUID | None, attributes: Attributes) -> bool:
    return object_id is None or attributes.get("id") == object_id


def _meets(condition: Expression | None, subject: Subject, attributes: Attributes) -> bool:
    return condition is None or condition.is_met(subject.attributes, attributes)
