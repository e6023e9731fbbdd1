"""People who do not exist, with what they would have made: the same ones every time."""

import functools
import random
import re
import tomllib
import unicodedata
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import insert, or_, select, text
from sqlalchemy.orm import Session

from app.domain.access.models import Role, RoleAssignment
from app.domain.access.services import PolicyService
from app.domain.audit.models import Action
from app.domain.audit.services import AuditService
from app.domain.items.models import Item
from app.domain.posts.models import Post
from app.domain.users.models import User
from app.lib.db.database import Database
from app.lib.db.models import Model
from app.server.commands.progress import Report

BATCH = 500
"""Accounts that are made in one transaction."""
BEGIN = datetime(2024, 1, 1, tzinfo=UTC)
DAYS = 700
"""Everything happens in these days, which have passed, whenever it is made."""
ALONE = 0x53454544
"""The advisory lock that two who make them at once compete for."""

Row = dict[str, Any]


class Person(NamedTuple):
    """Rows of one account. `role`: None for somebody without one."""

    user: Row
    role: str | None
    items: list[Row]
    posts: list[Row]


class SampleData:
    """Accounts, their roles, items and posts. No administrators, because all have the same password, if any."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def make(self, count: int, *, password_hash: str | None, report: Report) -> int:
        """Have the first `count` accounts. Returns how many were not there: with those that were, nothing happens."""
        made = 0
        for start in range(0, count, BATCH):
            report("Making accounts", start, count)
            people = [person(number) for number in range(start, min(start + BATCH, count))]
            made += self._database.write(functools.partial(_store, people=people, password_hash=password_hash))
        report("Making accounts", count, count)
        return made


def _store(session: Session, *, people: Sequence[Person], password_hash: str | None) -> int:
    session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": ALONE})
    ids, emails = [each.user["id"] for each in people], [each.user["email"] for each in people]
    taken = session.execute(select(User.id, User.email).where(or_(User.id.in_(ids), User.email.in_(emails))))
    known = {value for row in taken for value in row}
    new = [each for each in people if known.isdisjoint((each.user["id"], each.user["email"]))]
    if not new:
        return 0
    PolicyService(session).begin_change()
    session.execute(insert(User), [each.user | {"password_hash": password_hash} for each in new])
    _insert(session, Item, [row for each in new for row in each.items])
    _insert(session, Post, [row for each in new for row in each.posts])
    _give_roles(session, new)
    audit = AuditService(session)
    for each in new:
        fields = {name: [None, each.user[name]] for name in ("email", "is_verified")}
        audit.record(Action.USER_CREATED, subject=("user", each.user["id"]), changes=fields)
    return len(new)


def _insert(session: Session, model: type[Model], rows: Sequence[Row]) -> None:
    if rows:  # of none, SQLAlchemy would make one of defaults
        session.execute(insert(model), rows)


def _give_roles(session: Session, people: Sequence[Person]) -> None:
    """A role that an administrator has deleted is given to nobody."""
    roles = {name: role_id for role_id, name in session.execute(select(Role.id, Role.name))}
    held = [(each.user, each.role) for each in people if each.role in roles]
    _insert(session, RoleAssignment, [{"user_id": user["id"], "role_id": roles[str(role)]} for user, role in held])
    for user, role in held:
        AuditService(session).record(Action.ROLE_GIVEN, subject=("user", user["id"]), details={"role": role})


def person(number: int) -> Person:
    """Always the same one for a number. One in ten writes, six read, and three have no role."""
    dice = random.Random(f"keel sample {number}")
    first, last = dice.choice(_words()["first_names"]), dice.choice(_words()["last_names"])
    joined = BEGIN + timedelta(seconds=dice.randrange(DAYS * 24 * 3600 // 2))
    user_id = _id(dice, joined)
    is_active, chance = dice.random() < 0.97, dice.random()
    role = "editor" if chance < 0.1 else "viewer" if chance < 0.7 else None
    user = {
        "id": user_id,
        "email": f"{_ascii(first)}.{_ascii(last)}.{number + 1}@example.com",
        "first_name": first,
        "last_name": last,
        "phone": f"+1202555{dice.randrange(100, 200):04}" if dice.random() < 0.4 else None,
        "is_active": is_active,
        "is_verified": dice.random() < 0.9,
        "is_superuser": False,
        "last_login": _later(dice, joined) if dice.random() < 0.8 else None,
        **_times(joined),
    }
    items = [_item(dice, user_id, joined) for _ in range(dice.randrange(6))]
    posts = [_post(dice, user_id, joined) for _ in range(dice.randrange(1, 8))] if role == "editor" else []
    return Person(user, role, items, posts)


def _item(dice: random.Random, owner_id: UUID, joined: datetime) -> Row:
    made = _later(dice, joined)
    return {
        "id": _id(dice, made),
        "owner_id": owner_id,
        "title": f"{dice.choice(_words()['tasks'])} {dice.choice(_words()['things'])}",
        "description": " ".join(_sentences(dice, 2)) if dice.random() < 0.5 else None,
        **_times(made),
    }


def _post(dice: random.Random, owner_id: UUID, joined: datetime) -> Row:
    """Two of three are published, the others are drafts."""
    made = _later(dice, joined)
    title = dice.choice(_words()["headlines"]).format(dice.choice(_words()["subjects"]))
    return {
        "id": _id(dice, made),
        "owner_id": owner_id,
        "title": title[0].upper() + title[1:],
        "body": "\n\n".join(" ".join(_sentences(dice, 5)) for _ in range(dice.randrange(1, 5))),
        "published": dice.random() < 2 / 3,
        **_times(made),
    }


def _sentences(dice: random.Random, most: int) -> Iterator[str]:
    yield from dice.sample(_words()["sentences"], dice.randrange(1, most + 1))


def _id(dice: random.Random, made: datetime) -> UUID:
    """A UUID of version 7 (RFC 9562), whose random bits are the dice's."""
    milliseconds = int(made.timestamp() * 1000)
    return UUID(int=milliseconds << 80 | 7 << 76 | dice.getrandbits(12) << 64 | 2 << 62 | dice.getrandbits(62))


def _later(dice: random.Random, joined: datetime) -> datetime:
    return joined + timedelta(seconds=dice.randrange(1, DAYS * 24 * 3600 // 2))


def _times(made: datetime) -> Row:
    return {"created_at": made, "updated_at": made}


@functools.cache
def _words() -> dict[str, list[str]]:
    return tomllib.loads(Path(__file__).with_name("sample_words.toml").read_text())


def _ascii(name: str) -> str:
    """As people spell their names where only plain letters are taken."""
    plain = unicodedata.normalize("NFKD", name.lower().translate(str.maketrans("łøı", "loi")))
    return re.sub(r"[^a-z]", "", plain)
