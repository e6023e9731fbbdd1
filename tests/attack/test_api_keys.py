"""SECURITY.md, lines 19 and 33: API keys at every place that is not theirs, and beyond what they were made for."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import httpx
import pytest

from app.domain.api_keys.services import MAX_KEYS
from app.lib.api_keys import new_api_key
from app.lib.random_secrets import hash_of
from tests.attack.conftest import Keel
from tests.live import PASSWORD, wait_until

pytestmark = pytest.mark.e2e
CLOSED = [
    ("GET", "/users/me/api-keys", None),
    ("GET", "/users/me/api-keys/scopes", None),
    ("POST", "/users/me/api-keys", {"name": "x", "scopes": ["items:read"]}),
    ("DELETE", f"/users/me/api-keys/{uuid4()}", None),
    ("PATCH", "/users/me", {"first_name": "Eve"}),
    ("POST", "/auth/logout", None),
    ("GET", "/users/me/avatar", None),
    ("DELETE", "/users/me/avatar", None),
    ("DELETE", f"/users/{uuid4()}", None),
    ("DELETE", f"/users/{uuid4()}/sessions", None),
    ("POST", f"/users/{uuid4()}/password-reset", None),
]


class Owner:
    """An account, a session of it, and what its keys were made with."""

    def __init__(self, keel: Keel, *, is_superuser: bool = False) -> None:
        self.keel = keel
        self.email = keel.sign_up()
        keel.write("UPDATE users SET is_superuser = :is WHERE email = :email", email=self.email, **{"is": is_superuser})
        self.pair = keel.sign_in(self.email)
        [row] = keel.rows("SELECT id FROM users WHERE email = :email", email=self.email)
        self.id = row.id

    def session(self) -> httpx.Client:
        return self.keel.client(token=self.pair["access_token"])

    def make_key(self, *scopes: str, **more: Any) -> str:
        with self.session() as client:
            body = {"name": "attack", "scopes": scopes or self.all_scopes(), **more}
            return str(client.post("/users/me/api-keys", json=body).raise_for_status().json()["key"])

    def all_scopes(self) -> list[str]:
        with self.session() as client:
            scopes: list[str] = client.get("/users/me/api-keys/scopes").json()["items"]
        return scopes


@pytest.fixture
def owner(keel: Keel) -> Owner:
    return Owner(keel)


@pytest.fixture
def administrator(keel: Keel) -> Iterator[Owner]:
    owner = Owner(keel, is_superuser=True)
    yield owner
    keel.write("UPDATE users SET is_superuser = false WHERE id = :id", id=owner.id)


@pytest.mark.attack(19)
def test_a_key_with_every_scope_opens_none_of_the_routes_that_are_for_people(keel: Keel, administrator: Owner) -> None:
    with keel.client(token=administrator.make_key()) as program:
        assert program.get("/users/me").status_code == 200
        answers = [program.request(method, path, json=body) for method, path, body in CLOSED]

    assert {(answer.status_code, answer.json()["code"]) for answer in answers} == {(403, "scope_required")}
    assert all("not accepted" in answer.json()["detail"] for answer in answers)
    assert len(keel.rows("SELECT 1 FROM api_keys WHERE user_id = :id", id=administrator.id)) == 1


@pytest.mark.attack(19)
def test_a_key_is_no_other_kind_of_token(keel: Keel, owner: Owner) -> None:
    key = owner.make_key()
    with keel.client() as client:
        refreshed = client.post("/auth/refresh", json={"refresh_token": key})
        signed_in = client.post("/auth/login", json={"email": owner.email, "password": key})

    assert [refreshed.status_code, signed_in.status_code] == [401, 401]


@pytest.mark.attack(19)
@pytest.mark.parametrize(
    "present",
    [
        lambda key: {"params": {"access_token": key, "api_key": key, "key": key, "token": key}},
        lambda key: {"headers": {"X-API-Key": key, "Api-Key": key}},
        lambda key: {"headers": {"Authorization": key}},
        lambda key: {"headers": {"Authorization": f"Basic {key}"}},
        lambda key: {"headers": {"Authorization": f"ApiKey {key}"}},
        lambda key: {"headers": {"Cookie": f"access_token={key}; keel-access={key}; __Host-keel-access={key}"}},
        lambda key: {"headers": [("Authorization", f"Bearer {key}"), ("Authorization", f"Bearer {key}")]},
    ],
)
def test_a_key_is_accepted_as_a_bearer_token_only(
    present: Callable[[str], dict[str, Any]], keel: Keel, owner: Owner
) -> None:
    with keel.client() as client:
        assert client.get("/items", **present(owner.make_key())).status_code == 401


@pytest.mark.attack(19)
@pytest.mark.parametrize(
    "spoil",
    [
        lambda key: key[:-1],
        lambda key: key + "0",
        lambda key: key[:-1] + ("x" if key[-1] != "x" else "y"),
        lambda key: key.swapcase(),
        lambda key: key[:11],
        lambda key: hash_of(key).hex(),
        lambda _: f"keel_{'0' * 39}",
        lambda _: f"keel_{'x' * 6000}",
        lambda key: f"{key} {key}",
        lambda key: key + "%00",
        lambda key: key.replace("_", "-"),
        lambda _: new_api_key(),
    ],
)
def test_what_is_not_the_whole_key_is_nobodys(spoil: Callable[[str], str], keel: Keel, owner: Owner) -> None:
    with keel.client(token=spoil(owner.make_key())) as client:
        answer = client.get("/items")

    assert (answer.status_code, answer.json()["code"]) == (401, "not_authenticated")


@pytest.mark.attack(19)
def test_scopes_narrow_an_administrators_rights_and_widen_nobodys(
    keel: Keel, owner: Owner, administrator: Owner
) -> None:
    with keel.client(token=administrator.make_key("items:read")) as narrow:
        refused = [narrow.get("/users"), narrow.post("/items", json={"title": "x"}), narrow.get("/jobs")]
        assert narrow.get("/items").status_code == 200
    with keel.client(token=owner.make_key()) as ordinary:
        forbidden = [ordinary.get("/users"), ordinary.get(f"/users/{administrator.id}"), ordinary.get("/jobs")]

    assert {answer.json()["code"] for answer in refused} == {"scope_required"}
    assert {(answer.status_code, answer.json()["code"]) for answer in forbidden} == {(403, "permission_denied")}


@pytest.mark.attack(19)
def test_an_administrators_key_makes_no_administrator_and_takes_no_account_over(
    keel: Keel, owner: Owner, administrator: Owner
) -> None:
    new = {"email": f"{uuid4().hex}@example.com", "password": PASSWORD, "first_name": "E", "last_name": "E"}
    with keel.client(token=administrator.make_key()) as program:
        answers = [
            program.post("/users", json={**new, "is_superuser": True}),
            program.patch(f"/users/{owner.id}", json={"is_superuser": True}),
            program.patch(f"/users/{administrator.id}", json={"email": new["email"]}),
            program.patch(f"/users/{owner.id}", json={"email": new["email"], "is_verified": True}),
            program.delete(f"/users/{administrator.id}"),
        ]

    assert {(answer.status_code, answer.json()["code"]) for answer in answers} == {(403, "scope_required")}
    assert keel.rows("SELECT 1 FROM users WHERE email = :email", email=new["email"]) == []


@pytest.mark.attack(19)
def test_methods_that_are_disguised_need_their_own_scope(keel: Keel, owner: Owner) -> None:
    disguises = {"X-HTTP-Method-Override": "DELETE", "X-Method-Override": "DELETE"}
    with keel.client(token=owner.make_key("items:read")) as program:
        assert program.get("/items", headers=disguises).status_code == 200
        assert program.head("/items").status_code == 200
        assert program.post("/items?_method=GET", json={"title": "x"}).status_code == 403
        assert program.post("/items/", json={"title": "x"}).status_code in {403, 404, 405}
        assert program.post("//items", json={"title": "x"}).status_code in {403, 404, 405}


@pytest.mark.attack(19)
@pytest.mark.parametrize(
    "end",
    [
        "UPDATE api_keys SET expires_at = now() WHERE user_id = :id",
        "UPDATE api_keys SET revoked_at = now() WHERE user_id = :id",
        "UPDATE users SET is_active = false WHERE id = :id",
        "DELETE FROM users WHERE id = :id",
    ],
)
def test_what_an_operator_ends_in_the_database_is_dead_from_its_next_look_up(
    end: str, keel: Keel, owner: Owner
) -> None:
    key = owner.make_key()
    keel.write(end, id=owner.id)

    with keel.client(token=key) as here, keel.client(keel.there, token=key) as there:
        assert [here.get("/items").status_code, there.get("/items").status_code] == [401, 401]


@pytest.mark.attack(19)
def test_a_revoked_key_is_dead_at_both_processes(keel: Keel, owner: Owner) -> None:
    key = owner.make_key()
    with keel.client(token=key) as here, keel.client(keel.there, token=key) as there, owner.session() as session:
        assert [here.get("/items").status_code, there.get("/items").status_code] == [200, 200]
        [listed] = session.get("/users/me/api-keys").json()["items"]

        assert session.delete(f"/users/me/api-keys/{listed['id']}").status_code == 204

        assert here.get("/items").status_code == 401
        wait_until(lambda: there.get("/items").status_code == 401, seconds=2)


@pytest.mark.attack(33)
def test_a_key_is_made_by_a_recent_sign_in_only(keel: Keel, owner: Owner) -> None:
    keel.write("UPDATE sessions SET authenticated_at = now() - interval '11 minutes' WHERE user_id = :id", id=owner.id)
    with keel.client() as client:
        refreshed = client.post("/auth/refresh", json={"refresh_token": owner.pair["refresh_token"]}).json()
    with keel.client(token=refreshed["access_token"]) as session:
        answer = session.post("/users/me/api-keys", json={"name": "x", "scopes": ["items:read"]})

    assert (answer.status_code, answer.json()["code"]) == (403, "reauthentication_required")


@pytest.mark.attack(33)
def test_the_owner_is_told_of_a_new_key(keel: Keel, owner: Owner) -> None:
    key = owner.make_key()

    mail = keel.mail_to(owner.email, subject="An API key was made")

    assert key[:11] in mail.as_string()
    assert key not in mail.as_string()


@pytest.mark.attack(24)
def test_the_database_holds_no_usable_key(keel: Keel, owner: Owner) -> None:
    key = owner.make_key()

    [stored] = keel.rows("SELECT api_keys::text AS text FROM api_keys WHERE user_id = :id", id=owner.id)
    jobs = keel.rows("SELECT 1 FROM saq_jobs WHERE position(:key IN convert_from(job, 'UTF8')) > 0", key=key)

    assert key[12:] not in stored.text
    assert jobs == []


@pytest.mark.attack(65)
def test_other_peoples_keys_do_not_exist(keel: Keel, owner: Owner) -> None:
    key, eve = owner.make_key(), Owner(keel)
    with owner.session() as session:
        [listed] = session.get("/users/me/api-keys").json()["items"]
    with eve.session() as stranger:
        answers = [stranger.delete(f"/users/me/api-keys/{name}") for name in (listed["id"], uuid4(), "-1", "0" * 500)]
        searched = stranger.get("/users/me/api-keys", params={"q": "attack"}).json()
        by_hash = stranger.get("/users/me/api-keys", params={"sort": "key_hash"})

    assert {answer.status_code for answer in answers} == {404}
    assert searched["total"] == 0
    assert by_hash.status_code == 400
    with keel.client(token=key) as program:
        assert program.get("/items").status_code == 200


@pytest.mark.attack(33)
def test_many_at_once_make_no_more_keys_than_an_account_may_have(keel: Keel, owner: Owner) -> None:
    keel.write(
        "INSERT INTO api_keys (id, user_id, name, prefix, key_hash, scopes, created_at, updated_at) "
        "SELECT gen_random_uuid(), :id, 'x', 'keel_', sha256(random()::text::bytea), '{}', now(), now() "
        "FROM generate_series(1, :count)",
        id=owner.id,
        count=MAX_KEYS - 2,
    )

    def make(number: int) -> int:
        server = (keel.here, keel.there)[number % 2]
        with keel.client(server, token=owner.pair["access_token"]) as client:
            return client.post("/users/me/api-keys", json={"name": "x", "scopes": ["items:read"]}).status_code

    with ThreadPoolExecutor(10) as threads:
        answers = list(threads.map(make, range(10)))

    assert sorted(answers) == [201] * 2 + [409] * 8
