import sys
import threading
from typing import Any
from uuid import UUID, uuid4

import pytest

from app.lib.access import policy as module
from app.lib.access.policy import DENY, EVERYONE, Grant, Policy

pytestmark = pytest.mark.unit

ADA, EVE = uuid4(), uuid4()
READ, UPDATE, USERS = "posts:read", "posts:update", "users:update"
OWN = "r.obj.owner_id == r.sub.id"


def grant(subject: str, permission: str = READ, **fields: Any) -> Grant:
    return Grant(uuid4(), subject, permission, **fields)


def post(owner: UUID = ADA, *, published: bool = True, post_id: UUID | None = None) -> dict[str, Any]:
    return {"id": post_id or uuid4(), "owner_id": owner, "published": published}


def test_nobody_may_anything_without_a_rule() -> None:
    policy = Policy()

    assert not policy.may(ADA, READ)
    assert not policy.allows(ADA, READ, post())
    assert policy.roles_of(ADA) == (EVERYONE,)


def test_a_role_gives_what_it_is_granted_to_those_who_hold_it_and_nothing_else() -> None:
    policy = Policy(grants=[grant("role:editor")], assignments={ADA: {"editor"}})

    assert policy.may(ADA, READ)
    assert policy.allows(ADA, READ, post())
    assert not policy.may(ADA, UPDATE)
    assert not policy.may(EVE, READ)


def test_everyone_is_a_role_that_everybody_holds() -> None:
    policy = Policy(grants=[grant("role:everyone")], assignments={ADA: {"editor"}})

    assert policy.may(ADA, READ)
    assert policy.may(uuid4(), READ)


def test_roles_inherit_in_any_depth_and_in_one_direction() -> None:
    """SQL can make a hierarchy that the API would refuse; Casbin's own role manager would end in a RecursionError."""
    parents = {f"r{level}": {f"r{level + 1}"} for level in range(3000)}
    policy = Policy(
        grants=[grant("role:r3000"), grant("role:r0", UPDATE)], parents=parents, assignments={ADA: {"r0"}, EVE: {"r1"}}
    )

    assert policy.may(ADA, READ)
    assert policy.may(EVE, READ)
    assert policy.may(ADA, UPDATE)
    assert not policy.may(EVE, UPDATE)


def test_a_diamond_is_walked_once() -> None:
    parents = {f"{level}{side}": {f"{level + 1}a", f"{level + 1}b"} for level in range(40) for side in "ab"}
    policy = Policy(grants=[grant("role:40a")], parents=parents, assignments={ADA: {"0a"}})

    assert policy.allows(ADA, READ, post())
    assert len(policy.roles_of(ADA)) == 1 + 2 * 40 + 1


def test_a_circle_ends() -> None:
    parents = {"a": {"b"}, "b": {"c"}, "c": {"a"}, "self": {"self"}}
    policy = Policy(grants=[grant("role:c")], parents=parents, assignments={ADA: {"a"}, EVE: {"self"}})

    assert policy.may(ADA, READ)
    assert not policy.may(EVE, READ)
    assert set(policy.roles_of(ADA)) == {"a", "b", "c", EVERYONE}


def test_each_role_comes_before_those_it_inherits_from() -> None:
    policy = Policy(parents={"admin": {"editor"}, "editor": {"viewer"}}, assignments={ADA: {"admin"}})

    assert policy.roles_of(ADA) == ("admin", EVERYONE, "editor", "viewer")
    assert policy.roles_within(["editor"]) == ("editor", "viewer")


def test_a_deny_wins_wherever_it_comes_from() -> None:
    for denied in ("role:viewer", "role:everyone", f"user:{ADA}"):
        grants = [grant("role:editor"), grant(f"user:{ADA}"), grant(denied, effect=DENY)]
        policy = Policy(grants=grants, parents={"editor": {"viewer"}}, assignments={ADA: {"editor"}})

        assert not policy.may(ADA, READ)
        assert not policy.allows(ADA, READ, post())


def test_a_grant_on_one_object_is_for_that_object() -> None:
    mine = uuid4()
    policy = Policy(grants=[grant(f"user:{ADA}", object_id=mine)])

    assert policy.may(ADA, READ)
    assert policy.allows(ADA, READ, post(post_id=mine))
    assert not policy.allows(ADA, READ, post())
    assert not policy.may(EVE, READ)


def test_a_deny_on_one_object_leaves_the_others() -> None:
    secret = uuid4()
    policy = Policy(grants=[grant("role:everyone"), grant("role:everyone", object_id=secret, effect=DENY)])

    assert policy.may(ADA, READ)
    assert policy.allows(ADA, READ, post())
    assert not policy.allows(ADA, READ, post(post_id=secret))


def test_a_rule_looks_at_who_asks_and_at_the_object() -> None:
    policy = Policy(grants=[grant("role:everyone", rule=OWN), grant("role:everyone", rule="r.obj.published")])

    assert policy.allows(ADA, READ, post(ADA, published=False))
    assert policy.allows(EVE, READ, post(ADA, published=True))
    assert not policy.allows(EVE, READ, post(ADA, published=False))


def test_a_rule_and_an_object_must_both_agree() -> None:
    mine = uuid4()
    policy = Policy(grants=[grant("role:everyone", rule="r.obj.published", object_id=mine)])

    assert policy.allows(ADA, READ, post(post_id=mine))
    assert not policy.allows(ADA, READ, post(post_id=mine, published=False))
    assert not policy.allows(ADA, READ, post())


@pytest.mark.parametrize("rule", ["", " ", "r.obj.gone", "True\nand", "r.obj.published ==", "\x00"])
def test_a_rule_that_cannot_be_read_lets_nobody_in_and_keeps_everybody_out(rule: str) -> None:
    allowing = Policy(grants=[grant("role:everyone", rule=rule)])
    denying = Policy(grants=[grant("role:everyone"), grant("role:everyone", rule=rule, effect=DENY)])

    for policy in (allowing, denying):
        assert not policy.may(ADA, READ)
        assert not policy.allows(ADA, READ, post())


@pytest.mark.parametrize("fields", [{"rule": "r.obj.id == r.sub.id"}, {"object_id": uuid4()}])
def test_conditions_give_nothing_where_nobody_asks_about_objects(fields: dict[str, Any]) -> None:
    """The guard is all that asks: it must not take "perhaps" for yes."""
    policy = Policy(grants=[grant("role:everyone", USERS, **fields), grant("role:everyone", "audit:read", **fields)])

    assert not policy.may(ADA, USERS)
    assert not policy.may(ADA, "audit:read")


def test_a_rule_about_who_asks_counts_where_there_are_no_objects() -> None:
    policy = Policy(grants=[grant("role:everyone", USERS, rule=f"r.sub.id == '{ADA}'")])

    assert policy.may(ADA, USERS)
    assert not policy.may(EVE, USERS)


def test_nobody_is_taken_for_somebody_else_by_a_name() -> None:
    """A role may be called like a user, and a user like a role: they live apart."""
    for name in (f"user:{ADA}", str(ADA), f"role:{EVERYONE}", "user:*", "*", "", "a,b", "a\nb", "'", "role:admin"):
        policy = Policy(grants=[grant(f"role:{name}")], assignments={EVE: {name}})

        assert policy.may(EVE, READ)
        assert not policy.may(ADA, READ)


def test_permissions_are_compared_whole() -> None:
    policy = Policy(
        grants=[grant("role:everyone", permission) for permission in ("posts:*", "*", "posts", "posts:rea")]
    )

    assert not policy.may(ADA, READ)


def test_the_explanation_has_the_rules_as_they_are_stored_and_both_sides() -> None:
    mine = uuid4()
    by_role = grant("role:viewer", rule="r.obj.published")
    by_object = grant(f"user:{ADA}", object_id=mine)
    denied = grant("role:everyone", rule="not r.obj.published", effect=DENY)
    policy = Policy(grants=[by_role, by_object, denied], parents={"editor": {"viewer"}}, assignments={ADA: {"editor"}})

    some = policy.explain(ADA, READ, None)
    draft = policy.explain(ADA, READ, post(post_id=mine, published=False))

    assert (some.is_allowed, some.matched, some.roles) == (True, (by_object, by_role), ("viewer",))
    assert (draft.is_allowed, draft.matched, draft.roles) == (False, (by_object, denied), (EVERYONE,))
    assert not policy.explain(EVE, UPDATE, post()).is_allowed


def test_an_answer_is_kept_for_its_question_only() -> None:
    policy = Policy(grants=[grant("role:everyone", "posts:read", rule="r.obj.published"), grant(f"user:{ADA}", USERS)])

    for _ in range(2):
        assert policy.may(ADA, READ)
        assert policy.allows(ADA, READ, {"id": ADA, "owner_id": EVE, "published": True})
        assert not policy.allows(ADA, READ, {"id": ADA, "owner_id": EVE, "published": False})
        assert policy.allows(ADA, USERS, {"id": EVE})
        assert not policy.allows(EVE, USERS, {"id": EVE})
        assert not policy.may(EVE, USERS)
        assert not policy.allows(EVE, USERS, {})


def test_many_rules_that_say_the_same_are_asked_about_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has been given a thousand objects, one by one, must not wait for a thousand rules."""
    asked: list[int] = []

    def count(*question: Any) -> bool:
        asked.append(len(question[-1]))
        return True

    monkeypatch.setattr(module, "decide", count)
    mine = uuid4()
    grants = [grant(f"user:{ADA}", object_id=one) for one in (mine, *(uuid4() for _ in range(1000)))]
    grants += [grant(f"role:{number}", rule="r.obj.published") for number in range(1000)]
    policy = Policy(grants=grants, assignments={ADA: {str(number) for number in range(1000)}})

    policy.may(ADA, READ)
    policy.allows(ADA, READ, post(post_id=mine))

    assert asked == [1, 2]


@pytest.fixture
def few_remembered(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(module, "REMEMBERED", 50)
    return 50


def test_memory_does_not_grow_with_those_who_ask(few_remembered: int) -> None:
    policy = Policy(grants=[grant("role:everyone")])
    for _ in range(10 * few_remembered):
        assert policy.may(uuid4(), READ)

    kept = [len(value) for value in vars(policy).values() if hasattr(value, "__len__")]
    assert max(kept) <= few_remembered


def test_many_threads_get_the_answers_that_one_would_get() -> None:
    """Each thread asks each policy about people of its own, so that every decision is cold."""
    wrong: list[object] = []
    rule = "r.obj.published"

    def ask(number: int) -> None:
        for turn in range(60):
            policy = Policy(
                grants=[grant("role:a", rule=f"{rule} or r.obj.owner_id == '{uuid4()}'"), grant("role:b", UPDATE)],
                assignments={ADA: {"a"}, EVE: {"b"}},
            )
            try:
                answers = [
                    *(policy.may(ADA, READ), policy.may(EVE, READ), policy.may(ADA, UPDATE), policy.may(EVE, UPDATE)),
                    *(policy.allows(ADA, READ, post(EVE, published=published)) for published in (True, False)),
                ]
            except Exception as error:  # noqa: BLE001  (whatever it is, the test reports it)
                wrong.append(error)
            else:
                if answers != [True, False, False, True, True, False]:
                    wrong.append((number, turn, answers))

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)

    assert wrong == []
