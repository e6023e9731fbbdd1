"""SECURITY.md, line 66: nobody has the rights of an account by taking the account."""

import time
from collections.abc import Callable, Iterator
from uuid import uuid4

import httpx
import pytest

from app.lib.access.guards import Principal
from app.lib.settings import Settings
from app.server.resources import access_tokens
from tests.attack.conftest import Keel
from tests.attack.test_j_escalation import POLICY, Root, grant, refused
from tests.attack.test_j_users import Person
from tests.links import token_in
from tests.live import PASSWORD, SECRET_KEY

pytestmark = pytest.mark.e2e


@pytest.fixture
def root(keel: Keel) -> Iterator[Root]:
    root = Root(keel)
    yield root
    keel.write("UPDATE users SET is_superuser = false WHERE id = :id", id=root.id)


TAKE_OVER: dict[str, Callable[[httpx.Client, str], httpx.Response]] = {
    "address": lambda client, path: client.patch(path, json={"email": f"{uuid4().hex}@example.com"}),
    "name": lambda client, path: client.patch(path, json={"first_name": "Eve"}),
    "deactivation": lambda client, path: client.patch(path, json={"is_active": False}),
    "password": lambda client, path: client.post(f"{path}/password-reset"),
    "second factor": lambda client, path: client.delete(f"{path}/totp"),
    "sessions": lambda client, path: client.delete(f"{path}/sessions"),
    "deletion": lambda client, path: client.delete(path),
    "a role": lambda client, path: client.put(f"{path}/roles/viewer"),
    "a permission": lambda client, path: client.post(f"{path}/permissions", json=grant("users:read", effect="deny")),
}


@pytest.mark.attack(66)
def test_nobody_takes_over_an_account_that_may_do_more(keel: Keel, root: Root) -> None:
    support = root.give(Person(keel), root.make_role("users:read", "users:update", "users:delete", "posts:read"))
    chosen = Person(keel)
    with root.client() as client:
        more = grant("posts:update", object_id=str(uuid4()))
        client.post(f"/users/{chosen.id}/permissions", json=more).raise_for_status()
    victims = [root, root.give(Person(keel), "admin"), root.give(Person(keel), "editor"), chosen]
    before = [victim.row() for victim in victims]

    with support.client() as client:
        codes = {refused(act(client, f"/users/{victim.id}")) for act in TAKE_OVER.values() for victim in victims}
        assert [client.get(f"/users/{victim.id}").status_code for victim in victims] == [200] * 4, "reading is allowed"

    assert codes == {"outranked"}
    assert [victim.row() for victim in victims] == before
    for victim in victims:
        with victim.client() as theirs:
            assert theirs.get("/users/me").status_code == 200


@pytest.mark.attack(66)
def test_nobody_takes_over_an_account_of_which_a_rule_says_that_it_may_do_more(keel: Keel, root: Root) -> None:
    support, chosen, ada = root.give(Person(keel), root.make_role("users:update")), Person(keel), Person(keel)
    path = "/roles/everyone/permissions"
    with root.client() as client:
        answer = client.post(path, json=grant("posts:create", rule=f"r.sub.id == '{chosen.id}'")).raise_for_status()

    with support.client() as client, chosen.client() as theirs:
        assert theirs.post("/posts", json={"title": "Mine", "body": ""}).status_code == 201
        assert refused(client.post("/posts", json={"title": "Mine", "body": ""})) == "permission_denied"
        assert {refused(act(client, f"/users/{chosen.id}")) for act in list(TAKE_OVER.values())[:4]} == {"outranked"}
        assert client.patch(f"/users/{ada.id}", json={"first_name": "Eve"}).status_code == 200

    with root.client() as client:
        client.delete(f"{path}/{answer.json()['id']}").raise_for_status()


@pytest.mark.attack(66)
def test_nobody_prepares_an_account_for_the_day_on_which_it_may_do_more(keel: Keel, root: Root) -> None:
    support = root.give(Person(keel), root.make_role("users:read", "users:create", "users:update"))
    ada, mine = Person(keel), f"{uuid4().hex}@example.com"
    with support.client() as client:
        client.patch(f"/users/{ada.id}", json={"email": mine, "is_verified": True}).raise_for_status()
        link = token_in(keel.mail_to(mine, subject="Choose a password"))
        client.post("/auth/password/reset", json={"token": link, "password": PASSWORD}).raise_for_status()
        client.patch(f"/users/{ada.id}", json={"email": ada.email, "is_verified": True}).raise_for_status()

        account = {"email": f"{uuid4().hex}@example.com", "first_name": "Ada", "last_name": "L"}
        prepared = client.post("/users", json={**account, "password": PASSWORD})
        invited = client.post("/users", json=account)
        signed_in = client.post("/auth/login", json={"email": ada.email, "password": PASSWORD})

    assert signed_in.status_code == 401
    assert keel.mail_to(ada.email, subject="Choose a password")
    assert (refused(prepared), invited.status_code) == ("outranked", 201)


@pytest.mark.attack(66)
def test_only_superusers_make_superusers(keel: Keel, root: Root) -> None:
    admin, ada = root.give(Person(keel), "admin"), Person(keel)
    account = {"email": f"{uuid4().hex}@example.com", "first_name": "E", "last_name": "E", "is_superuser": True}

    with admin.client() as client:
        assert refused(client.post("/users", json=account)) == "outranked"
        for victim in (ada, admin):
            answer = client.patch(f"/users/{victim.id}", json={"is_superuser": True, "first_name": "Eve"})
            assert refused(answer) == "outranked"
        assert client.patch(f"/users/{ada.id}", json={"first_name": "Eve"}).status_code == 200
        assert client.post("/users", json=account | {"is_superuser": False}).status_code == 201

    assert not ada.row().is_superuser
    assert not admin.row().is_superuser


@pytest.mark.attack(66)
def test_a_token_gives_nothing_that_its_owner_has_lost_meanwhile(keel: Keel) -> None:
    former, victim = Person(keel), Person(keel)
    settings = Settings(_env_file=None, app_env="test", secret_key=SECRET_KEY, public_url="http://keel.test")
    claims = Principal(id=former.id, session_id=uuid4(), is_superuser=True, authenticated_at=int(time.time()))
    before = keel.rows(POLICY)

    with keel.client(token=access_tokens(settings).issue(claims)) as client:
        codes = [
            refused(client.post("/roles", json={"name": f"r{uuid4().hex}"})),
            refused(client.delete("/roles/viewer")),
            refused(client.put("/roles/viewer/parents/everyone")),
            refused(client.post("/roles/viewer/permissions", json=grant("users:read"))),
            refused(client.put(f"/users/{victim.id}/roles/admin")),
            refused(client.post(f"/users/{victim.id}/permissions", json=grant("users:read"))),
            *(refused(act(client, f"/users/{victim.id}")) for act in TAKE_OVER.values()),
        ]

    assert set(codes) == {"permission_denied"}
    assert keel.rows(POLICY) == before
