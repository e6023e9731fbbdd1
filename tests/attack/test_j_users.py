"""SECURITY.md, lines 5 and 65 to 67, as far as they concern accounts."""

import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from app.lib.access.guards import Principal
from app.lib.settings import Settings
from app.server.resources import access_tokens
from tests.attack.conftest import Keel
from tests.live import PASSWORD, SECRET_KEY, LiveServer

pytestmark = pytest.mark.e2e
ROUTES: list[tuple[str, str, Any]] = [
    ("GET", "/users", None),
    ("POST", "/users", {"email": "eve@example.com", "first_name": "E", "last_name": "E", "is_superuser": True}),
    ("GET", "/users/{id}", None),
    ("PATCH", "/users/{id}", {"is_superuser": True}),
    ("PATCH", "/users/{id}", {"first_name": "Eve"}),
    ("DELETE", "/users/{id}", None),
    ("DELETE", "/users/{id}/sessions", None),
    ("POST", "/users/{id}/password-reset", None),
]
PRIVILEGES: list[dict[str, Any]] = [
    *({name: True} for name in ("is_superuser", "is_active", "is_verified")),
    *({name: str(uuid4())} for name in ("id", "tenant_id", "avatar_url", "password_hash")),
    {"roles": ["admin"]},
    {"created_at": "2020-01-01T00:00:00Z"},
    {"email": "eve@example.com"},
]


class Person:
    def __init__(self, keel: Keel, *, is_superuser: bool = False) -> None:
        self.keel, self.email = keel, keel.sign_up()
        if is_superuser:
            keel.write("UPDATE users SET is_superuser = true WHERE email = :email", email=self.email)
        self.token = keel.sign_in(self.email)["access_token"]
        self.id: UUID = self.row().id

    def client(self) -> httpx.Client:
        return self.keel.client(token=self.token)

    def row(self) -> Any:
        [row] = self.keel.rows("SELECT * FROM users WHERE email = :email", email=self.email)
        return row


@pytest.fixture
def ada(keel: Keel) -> Person:
    return Person(keel)


@pytest.fixture
def eve(keel: Keel) -> Person:
    return Person(keel)


@pytest.fixture
def administrator(keel: Keel) -> Iterator[Person]:
    person = Person(keel, is_superuser=True)
    yield person
    keel.write("UPDATE users SET is_superuser = false WHERE id = :id", id=person.id)


@pytest.mark.attack(65)
def test_an_ordinary_user_reaches_no_account_by_its_id_not_even_their_own(ada: Person, eve: Person) -> None:
    before = ada.row()
    with eve.client() as client:
        for user_id in (ada.id, eve.id, uuid4()):
            for method, path, body in ROUTES:
                answer = client.request(method, path.format(id=user_id), json=body)
                assert (answer.status_code, answer.json()["code"]) == (403, "permission_denied"), (method, path)

    assert ada.row() == before
    assert not eve.row().is_superuser


@pytest.mark.attack(65)
def test_nobody_reaches_an_account_without_signing_in(keel: Keel, ada: Person) -> None:
    with keel.client() as client:
        answers = {
            client.request(method, path.format(id=ada.id), json=body).status_code for method, path, body in ROUTES
        }

    assert answers == {401}


@pytest.mark.attack(65)
@pytest.mark.parametrize(
    "user_id",
    ["0", "-1", "1" * 400, "null", "me;id=1", "%00", "%2e%2e", "'--", "0198c2a0-0000-7000-8000-00000000000"],
)
def test_an_id_that_is_none_is_not_found(user_id: str, administrator: Person) -> None:
    with administrator.client() as client:
        answers = {client.request(method, f"/users/{user_id}").status_code for method in ("GET", "PATCH", "DELETE")}

    assert answers <= {404, 405}


@pytest.mark.attack(65)
@pytest.mark.parametrize("sort", ["password_hash", "-password_hash", "phone", "is_superuser", "id", "__class__", ""])
def test_accounts_are_sorted_by_what_is_shown_only(sort: str, administrator: Person) -> None:
    with administrator.client() as client:
        assert client.get("/users", params={"sort": sort}).status_code == 400


@pytest.mark.attack(65)
def test_no_password_hash_is_shown_or_searched(keel: Keel, administrator: Person, ada: Person) -> None:
    with administrator.client() as client:
        listed = client.get("/users", params={"limit": 100})
        one = client.get(f"/users/{ada.id}")
        searched = client.get("/users", params={"q": "argon2"})
        everybody = client.get("/users", params={"q": "%"})

    assert "argon2" not in listed.text + one.text
    assert "password" not in one.text
    assert searched.json()["total"] == everybody.json()["total"] == 0


@pytest.mark.attack(5)
@pytest.mark.parametrize("extra", PRIVILEGES, ids=lambda extra: next(iter(extra)))
def test_nobody_gives_themselves_what_only_administrators_give(extra: dict[str, Any], ada: Person) -> None:
    before = ada.row()
    with ada.client() as client:
        answer = client.patch("/users/me", json={"first_name": "Ada", **extra})

    assert answer.status_code == 400
    assert ada.row() == before


@pytest.mark.attack(5)
@pytest.mark.parametrize("extra", PRIVILEGES[:-1], ids=lambda extra: next(iter(extra)))
def test_a_registration_that_wants_more_makes_no_account(extra: dict[str, Any], keel: Keel) -> None:
    account = {"email": f"{uuid4().hex}@example.com", "password": PASSWORD, "first_name": "E", "last_name": "E"}
    with keel.client() as client:
        answer = client.post("/auth/register", json=account | extra)

    assert answer.status_code == 400
    assert keel.rows("SELECT 1 FROM users WHERE email = :email", email=account["email"]) == []


@pytest.mark.attack(5)
@pytest.mark.parametrize("extra", [{"id": str(uuid4())}, {"password_hash": "x"}, {"avatar_url": "x"}, {"roles": []}])
def test_not_even_an_administrator_writes_what_the_schema_does_not_name(
    extra: dict[str, Any], administrator: Person, ada: Person
) -> None:
    before = ada.row()
    with administrator.client() as client:
        answer = client.patch(f"/users/{ada.id}", json=extra)

    assert answer.status_code == 400
    assert ada.row() == before


@pytest.mark.attack(66)
def test_the_last_administrator_cannot_be_removed(keel: Keel, administrator: Person) -> None:
    keel.write("UPDATE users SET is_superuser = false WHERE id != :id", id=administrator.id)
    with administrator.client() as client:
        answers = [
            client.patch(f"/users/{administrator.id}", json={"is_superuser": False}),
            client.patch(f"/users/{administrator.id}", json={"is_active": False}),
            client.patch(f"/users/{administrator.id}", json={"is_active": False, "first_name": "x"}),
            client.delete(f"/users/{administrator.id}"),
        ]

    assert {(answer.status_code, answer.json()["code"]) for answer in answers} == {(409, "last_administrator")}
    assert (administrator.row().is_superuser, administrator.row().is_active) == (True, True)


def administrators(keel: Keel, count: int) -> list[tuple[UUID, str]]:
    """The only ones, each with a token that outlives all revocations: it names no session."""
    keel.write("UPDATE users SET is_superuser = false")
    keel.write(
        "INSERT INTO users "
        "(id, email, first_name, last_name, is_active, is_verified, is_superuser, created_at, updated_at) "
        "SELECT id, id || '@example.com', 'A', 'A', true, true, true, now(), now() "
        "FROM (SELECT gen_random_uuid() AS id FROM generate_series(1, :count)) AS new",
        count=count,
    )
    settings = Settings(_env_file=None, app_env="test", secret_key=SECRET_KEY, public_url="http://keel.test")
    tokens, now = access_tokens(settings), int(time.time())
    return [
        (row.id, tokens.issue(Principal(id=row.id, session_id=uuid4(), is_superuser=True, authenticated_at=now)))
        for row in keel.rows("SELECT id FROM users WHERE is_superuser")
    ]


@pytest.mark.attack(66)
def test_of_20_who_demote_each_other_at_once_on_both_processes_half_stay(keel: Keel) -> None:
    people = administrators(keel, 20)
    pairs = list(zip(people[::2], people[1::2], strict=True))

    def demote(attempt: tuple[str, UUID, LiveServer]) -> int:
        token, victim, server = attempt
        with keel.client(server, token=token) as client:
            return client.patch(f"/users/{victim}", json={"is_superuser": False}).status_code

    attempts = [
        attempt for one, other in pairs for attempt in ((one[1], other[0], keel.here), (other[1], one[0], keel.there))
    ]
    with ThreadPoolExecutor(20) as threads:
        answers = Counter(threads.map(demote, attempts))

    assert answers == {200: 10, 403: 10}, "whoever has been demoted demotes nobody"
    assert len(keel.rows("SELECT id FROM users WHERE is_superuser AND is_active")) == 10
    keel.write("UPDATE users SET is_superuser = false")


@pytest.mark.attack(66)
@pytest.mark.parametrize(
    ("method", "body"), [("PATCH", {"is_superuser": False}), ("PATCH", {"is_active": False}), ("DELETE", None)]
)
def test_of_the_last_two_who_remove_each_other_at_once_one_stays(method: str, body: Any, keel: Keel) -> None:
    one, other = administrators(keel, 2)

    def remove(attempt: tuple[str, UUID, LiveServer]) -> int:
        token, victim, server = attempt
        with keel.client(server, token=token) as client:
            return client.request(method, f"/users/{victim}", json=body).status_code

    with ThreadPoolExecutor(2) as threads:
        answers = list(threads.map(remove, [(one[1], other[0], keel.here), (other[1], one[0], keel.there)]))

    assert min(answers) in {200, 204}
    assert max(answers) == 409
    assert len(keel.rows("SELECT 1 FROM users WHERE is_superuser AND is_active")) == 1
    keel.write("UPDATE users SET is_superuser = false")


@pytest.mark.attack(67)
@pytest.mark.parametrize(
    "path", ["/users/", "//users", "/users/.", "/USERS", "/%75sers", "/users%2f", "/users;x=1", "/users/%2e"]
)
def test_other_spellings_of_a_path_meet_the_same_rule(path: str, keel: Keel, ada: Person) -> None:
    with keel.client() as nobody, ada.client() as somebody:
        url = httpx.URL(f"{keel.here.api}{path}")
        assert nobody.get(url).status_code in {401, 404}
        assert somebody.get(url).status_code in {403, 404}
        assert somebody.head(url).status_code in {403, 404}
        assert "email" not in somebody.options(url).text
