"""Who may give what: tables, with `own`, the rules that apply to the one who asks."""

from uuid import UUID, uuid4

import pytest

from app.lib.access.authority import Authority
from app.lib.access.policy import ALLOW, DENY, Grant, Policy

pytestmark = pytest.mark.unit
ME, ADA, OBJECT = (UUID(int=number) for number in range(1, 4))
OWN = "r.obj.owner_id == r.sub.id"


def allow(object_id: UUID | None = None, rule: str | None = None, *, permission: str = "posts:update") -> Grant:
    return Grant(uuid4(), "role:writer", permission, object_id, rule, ALLOW)


def deny(object_id: UUID | None = None, rule: str | None = None) -> Grant:
    return Grant(uuid4(), "role:writer", "posts:update", object_id, rule, DENY)


def authority(*grants: Grant, roles: tuple[str, ...] = ("writer",), is_unlimited: bool = False) -> Authority:
    parents = {"chief": {"writer"}, "writer": {"reader"}}
    policy = Policy(grants=grants, parents=parents, assignments={ME: set(roles), ADA: {"chief"}})
    return Authority(policy, ME, is_unlimited=is_unlimited)


@pytest.mark.parametrize(
    ("own", "grant", "is_covered"),
    [
        ([], allow(), False),
        ([allow()], allow(), True),
        ([allow()], allow(rule=OWN), True),
        ([allow()], allow(OBJECT), True),
        ([allow(rule=OWN)], allow(), False),
        ([allow(rule=OWN)], allow(rule=OWN), True),
        ([allow(rule=OWN)], allow(rule=f"{OWN} or r.obj.published"), False),
        ([allow(rule=OWN)], allow(OBJECT, OWN), False),
        ([allow(OBJECT)], allow(), False),
        ([allow(OBJECT)], allow(OBJECT), True),
        ([allow(OBJECT)], allow(uuid4()), False),
        ([allow(permission="posts:read")], allow(), False),
        ([allow(), deny()], allow(), False),
        ([allow(), deny(OBJECT)], allow(), False),
        ([allow(), deny(rule=OWN)], allow(uuid4()), False),
        ([allow(OBJECT), deny(uuid4())], allow(OBJECT), False),
        ([], deny(), False),
        ([allow()], deny(), True),
        ([allow(OBJECT)], deny(OBJECT), False),
        ([deny(OBJECT)], deny(OBJECT), False),
    ],
)
def test_only_what_one_holds_can_be_given_or_taken(own: list[Grant], grant: Grant, *, is_covered: bool) -> None:
    assert authority(*own).covers([grant]) == is_covered
    assert authority(*own, is_unlimited=True).covers([grant])


def test_all_of_a_role_must_be_held_also_what_it_inherits() -> None:
    writing, reading = allow(), Grant(uuid4(), "role:reader", "posts:read")
    firing = Grant(uuid4(), "role:chief", "users:delete")

    assert authority(writing, reading, firing).covers_role("writer")
    assert authority(writing, reading, firing).covers_role("reader")
    assert not authority(writing, reading, firing).covers_role("chief")
    assert not authority(writing, reading, firing, roles=("reader",)).covers_role("writer")
    assert not authority(writing, reading._replace(effect=DENY)).covers_role("writer")


def test_somebody_with_one_permission_more_is_out_of_reach() -> None:
    firing = Grant(uuid4(), "role:chief", "users:delete")

    assert authority(allow()).covers_user(ADA)
    assert not authority(allow(), firing).covers_user(ADA)
    assert authority(allow(), firing, is_unlimited=True).covers_user(ADA)
    assert not authority(allow(), Grant(uuid4(), f"user:{ADA}", "posts:update", OBJECT), roles=()).covers_user(ADA)


@pytest.mark.parametrize(
    ("rule", "is_covered"),
    [
        (f"r.sub.id == '{ADA}'", False),
        (f"'{ADA}' == r.sub.id and r.obj.published", False),
        (f"r.obj.published or r.sub.id in ('{OBJECT}', '{ADA}')", False),
        (f"not (r.sub.id is not '{ADA}')", False),
        (f"r.sub.id != '{ME}'", False),
        (f"r.sub.id == '{OBJECT}'", True),
        (f"r.obj.owner_id == '{ADA}' and r.sub.id != None", True),
        (OWN, True),
    ],
)
def test_a_rule_about_certain_people_is_not_held_by_the_others(rule: str, *, is_covered: bool) -> None:
    for_all = Grant(uuid4(), "role:everyone", "posts:update", rule=rule)

    assert authority(for_all).covers_user(ADA) == is_covered
    assert authority(for_all).covers([for_all]) == (rule == OWN), "to whomever it is given next"


def test_what_is_withheld_from_somebody_puts_them_in_nobodys_way() -> None:
    firing = Grant(uuid4(), "role:chief", "users:delete")
    withheld = Grant(uuid4(), f"user:{ADA}", "users:delete", effect=DENY)

    assert authority(allow(), firing, withheld).covers_user(ADA)


def test_a_role_is_out_of_reach_while_somebody_who_has_it_may_do_more() -> None:
    firing = Grant(uuid4(), "role:chief", "users:delete")

    assert authority(allow()).covers_holders("writer")
    assert not authority(allow(), firing).covers_holders("reader"), "ada is chief, and so a reader"
    assert authority(allow(), firing).covers_holders("stranger"), "nobody has it"
    assert authority(allow(), firing, is_unlimited=True).covers_holders("reader")


def test_roles_are_had_when_given_inherited_or_everybodys() -> None:
    assert [name for name in ("chief", "writer", "reader", "everyone") if authority().has_role(name)] == [
        "writer",
        "reader",
        "everyone",
    ]
    assert not authority(is_unlimited=True).has_role("chief"), "by the policy, whoever they are"
