"""Policies, rules and values by chance: the same ones for the same seed."""

import random
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from app.lib.access.policy import ALLOW, DENY, EVERYONE, Grant, Policy

ROLES = [f"role{number}" for number in range(5)]
VALUES: dict[type, Sequence[Any]] = {
    str: ["", "a", "A", "a ", "ä", "%", "O'Hara", 'say "no"', "1", "None"],
    int: [0, 1, 2, 7, 2**31, 2**40],
    bool: [True, False],
}
JOINED = ["({0} and {1})", "({0} or {1})", "not ({0})", "not ({0} or {1})", "({0} or {1} and {2})"]
UNREADABLE = ["r.obj.nothing == 1", "1 +", "r.obj.id", "r.obj.id < 1"]


class Chance:
    """`attributes`: those that rules may use of an object, with their types; `ids`: what ids are taken from."""

    def __init__(self, seed: int, *, attributes: Mapping[str, type], ids: Sequence[UUID]) -> None:
        self._random = random.Random(seed)
        self._attributes = attributes
        self._values: dict[type, Sequence[Any]] = {**VALUES, UUID: ids}

    def happens(self, *, once_in: int) -> bool:
        return self._random.randrange(once_in) == 0

    def value(self, kind: type, *, nullable: bool = False) -> Any:
        return None if nullable and self.happens(once_in=4) else self._random.choice(self._values[kind])

    def policy(self, *, permissions: Sequence[str], users: Sequence[UUID], objects: Sequence[UUID]) -> Policy:
        """Roles inherit from each other, at times in a circle, which SQL alone could make."""
        subjects = [*(f"role:{role}" for role in (EVERYONE, *ROLES)), *(f"user:{user}" for user in users)]
        return Policy(
            grants=[self._grant(subjects, permissions, objects) for _ in range(self._random.randrange(1, 14))],
            parents={role: self._some_roles() for role in ROLES},
            assignments={user: self._some_roles() for user in users},
        )

    def _some_roles(self) -> set[str]:
        return set(self._random.sample(ROLES, self._random.randrange(3)))

    def _grant(self, subjects: Sequence[str], permissions: Sequence[str], objects: Sequence[UUID]) -> Grant:
        return Grant(
            UUID(int=self._random.getrandbits(128)),
            self._random.choice(subjects),
            self._random.choice(permissions),
            self._random.choice(objects) if self.happens(once_in=4) else None,
            self._stored_rule() if self.happens(once_in=2) else None,
            DENY if self.happens(once_in=4) else ALLOW,
        )

    def _stored_rule(self) -> str:
        return self._random.choice(UNREADABLE) if self.happens(once_in=20) else self.rule()

    def rule(self, depth: int = 0) -> str:
        """With any of the operators that there are."""
        if depth < 2 and self.happens(once_in=2):
            return self._random.choice(JOINED).format(*[self.rule(depth + 1) for _ in range(3)])
        return self._random.choice([self._equality, self._membership, self._order, self._flag])()

    def _equality(self) -> str:
        kind = self._random.choice([*self._values])
        return f"{self._operand(kind)} {self._one_of('==', '!=', 'is', 'is not')} {self._operand(kind)}"

    def _membership(self) -> str:
        kind = self._random.choice([*self._values])
        values = [self._operand(kind) for _ in range(self._random.randrange(1, 4))]
        return f"{self._operand(kind)} {self._one_of('in', 'not in')} [{', '.join(values)}]"

    def _order(self) -> str:
        sides = [self._operand(int, may_be_none=False) for _ in range(2)]
        return f"{sides[0]} {self._one_of('<', '<=', '>', '>=')} {sides[1]}"

    def _flag(self) -> str:
        return self._operand(bool, may_be_none=False)

    def _one_of(self, *texts: str) -> str:
        return self._random.choice(texts)

    def _operand(self, kind: type, *, may_be_none: bool = True) -> str:
        """An attribute of the type or a constant."""
        names = [f"r.obj.{name}" for name, type_ in self._attributes.items() if type_ is kind]
        names += ["r.sub.id"] if kind is UUID else []
        if names and not self.happens(once_in=3):
            return self._random.choice(names)
        if may_be_none and self.happens(once_in=4):
            return "None"
        value = self.value(kind)
        return repr(str(value) if kind is UUID else value)
