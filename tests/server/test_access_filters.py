"""The filter is the decision: `AccessControl.where` finds exactly the rows that `AccessControl.allows` allows."""

import time
from enum import StrEnum
from uuid import UUID, uuid4

import pytest
from sqlalchemy import BigInteger, Connection, MetaData, Table, func, select, text
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.domain.access.models import Permission
from app.domain.posts.models import Post
from app.lib.access.control import AccessControl
from app.lib.access.expressions import parse
from app.lib.access.guards import Principal
from app.lib.access.policy import DENY, EVERYONE, Grant, Policy
from app.lib.access.resources import attribute_types, attributes_of, columns_of
from app.lib.db.models import Model
from tests.random_policies import Chance

pytestmark = pytest.mark.integration

ROWS = 24
USERS = [UUID(int=number) for number in range(1, 4)]
"""The last one is the owner of things, but never asks."""
OBJECTS = [UUID(int=100 + number) for number in range(ROWS)]


class ThingPermission(StrEnum):
    READ = "things:read"
    UPDATE = "things:update"


class Thing(Model):
    """It has an attribute of each type, and of each type one that may be nothing. No migration knows it."""

    __tablename__ = "things"
    metadata = MetaData()
    access_attributes = ("owner_id", "state", "size", "open", "count", "label", "done")

    owner_id: Mapped[UUID | None]
    state: Mapped[str | None]
    size: Mapped[int | None] = mapped_column(BigInteger)
    open: Mapped[bool | None]
    count: Mapped[int]
    label: Mapped[str]
    done: Mapped[bool]


def chance(seed: int) -> Chance:
    return Chance(seed, attributes=attribute_types("things"), ids=[*USERS, OBJECTS[0]])


@pytest.fixture
def things(session: Session, connection: Connection) -> list[Thing]:
    assert isinstance(Thing.__table__, Table)
    Thing.__table__.create(connection)
    some = chance(0)
    rows = [
        Thing(
            id=object_id,
            owner_id=some.value(UUID, nullable=True),
            state=some.value(str, nullable=True),
            size=some.value(int, nullable=True),
            open=some.value(bool, nullable=True),
            count=some.value(bool) + 1,
            label=some.value(str),
            done=some.value(bool),
        )
        for object_id in OBJECTS
    ]
    session.add_all(rows)
    session.flush()
    return rows


def principal(user_id: UUID, *scopes: str, is_superuser: bool = False) -> Principal:
    return Principal(
        id=user_id,
        session_id=uuid4(),
        is_superuser=is_superuser,
        authenticated_at=int(time.time()),
        scopes=frozenset(scopes) or None,
    )


def access_by(policy: Policy) -> AccessControl:
    access = AccessControl()
    access.policy = policy
    return access


def found(session: Session, model: type[Model], access: AccessControl, who: Principal, what: StrEnum) -> set[UUID]:
    return set(session.scalars(select(model.id).where(access.where(who, what, model))))


def is_denied(policy: Policy, who: Principal, thing: Thing) -> bool:
    decision = policy.explain(who.id, ThingPermission.READ, attributes_of(thing))
    return any(grant.effect == DENY for grant in decision.matched)


def test_300_policies_find_in_sql_what_they_allow_one_by_one(session: Session, things: list[Thing]) -> None:
    numbers = set()
    for seed in range(1, 301):
        policy = chance(seed).policy(permissions=[*ThingPermission], users=USERS[:2], objects=OBJECTS[:4])
        access = access_by(policy)
        for who in map(principal, USERS[:2]):
            allowed = {thing.id for thing in things if access.allows(who, ThingPermission.READ, thing)}
            assert found(session, Thing, access, who, ThingPermission.READ) == allowed, (seed, who.id)
            if seed % 5 == 0:
                denied = {thing.id for thing in things if is_denied(policy, who, thing)}
                unless = access.unless_denied(who, ThingPermission.READ, Thing)
                assert set(session.scalars(select(Thing.id).where(unless))) == set(OBJECTS) - denied, (seed, who.id)
            assert not allowed or access.may(who, ThingPermission.READ), seed
            numbers.add(len(allowed))

    assert numbers >= {0, 1, ROWS - 1, ROWS}, "some policies allow nothing, some all, most something in between"


def test_500_rules_mean_in_sql_what_they_mean_in_python(session: Session, things: list[Thing]) -> None:
    some, sub = chance(0), {"id": USERS[0]}
    for rule in [some.rule() for _ in range(500)]:
        read = parse(rule, attribute_types("things"))
        met = {thing.id for thing in things if read.is_met(sub, attributes_of(thing))}
        unmet = select(Thing.id).where(~read.sql(sub, columns_of(Thing)))

        assert set(session.scalars(select(Thing.id).where(read.sql(sub, columns_of(Thing))))) == met, rule
        assert set(session.scalars(unmet)) == set(OBJECTS) - met, f"neither true nor false: {rule}"


def test_superusers_find_all_and_api_keys_nothing_beyond_their_scopes(session: Session, things: list[Thing]) -> None:
    access = access_by(Policy(grants=[Grant(uuid4(), f"role:{EVERYONE}", ThingPermission.READ)]))
    askers = {
        principal(USERS[0], is_superuser=True): {*OBJECTS},
        principal(USERS[0], "things:read"): {*OBJECTS},
        principal(USERS[0], "things:update"): set(),
        principal(USERS[0], "things:update", is_superuser=True): set(),
    }

    for who, rows in askers.items():
        assert found(session, Thing, access, who, ThingPermission.READ) == rows
        assert {thing.id for thing in things if access.allows(who, ThingPermission.READ, thing)} == rows


def test_permissions_for_70_000_single_things_are_one_filter(session: Session, things: list[Thing]) -> None:
    ids = [*OBJECTS[:3], *(UUID(int=10**6 + number) for number in range(70_000))]
    single = [Grant(object_id, f"user:{USERS[0]}", ThingPermission.READ, object_id) for object_id in ids]
    access = access_by(Policy(grants=single))
    where = access.where(principal(USERS[0]), ThingPermission.READ, Thing)

    listed = session.execute(select(Thing.id, select(func.count(Thing.id)).where(where).scalar_subquery()).where(where))

    assert {tuple(row) for row in listed} == {(thing, 3) for thing in OBJECTS[:3]}


def test_a_filter_by_owner_can_use_an_index(session: Session) -> None:
    own = Grant(uuid4(), f"role:{EVERYONE}", Permission.POSTS_READ, None, "r.obj.owner_id == r.sub.id")
    where = access_by(Policy(grants=[own])).where(principal(USERS[0]), Permission.POSTS_READ, Post)
    statement = (
        select(Post.id).where(where).compile(session.connection().engine, compile_kwargs={"literal_binds": True})
    )

    session.execute(text("SET LOCAL enable_seqscan = off"))
    plan = "\n".join(session.scalars(text(f"EXPLAIN {statement}")))

    assert "Index Cond: (owner_id = " in plan
