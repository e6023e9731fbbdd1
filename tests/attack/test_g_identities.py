"""SECURITY.md, parts E and G: whose account an identity leads to, and who may add and remove one."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.attack.conftest import Keel
from tests.fake_provider import FakeProvider
from tests.live import PASSWORD
from tests.visitor import Visitor, fragment

pytestmark = pytest.mark.e2e

PATH = "/users/me/identities"


@pytest.fixture
def visitor(keel: Keel, fakes: dict[str, FakeProvider]) -> Iterator[Visitor]:
    with keel.client() as client:
        yield Visitor(client, fakes["fake"])


@pytest.fixture
def account(keel: Keel) -> Callable[..., str]:
    """Make one with a password. Returns its address."""

    def make(*, is_verified: bool) -> str:
        email = keel.sign_up()
        keel.write("UPDATE users SET is_verified = :value WHERE email = :email", value=is_verified, email=email)
        return email

    return make


def vouch(fake: FakeProvider, email: str, *, is_verified: object = True) -> None:
    fake.person |= {"email": email, "email_verified": is_verified}


def link(client: httpx.Client, fake: FakeProvider) -> dict[str, str]:
    answer = client.post(PATH, json={"provider": fake.name, "next": "/settings"}).raise_for_status()
    return fragment(Visitor(client, fake).come_back(answer.json()["authorize_url"]))


def old_session(keel: Keel, email: str) -> dict[str, str]:
    """Tokens of a session that was proved an hour ago."""
    tokens = keel.sign_in(email)
    keel.write(
        "UPDATE sessions SET authenticated_at = now() - interval '1 hour' "
        "WHERE user_id = (SELECT id FROM users WHERE email = :email)",
        email=email,
    )
    with keel.client() as client:
        refreshed: dict[str, str] = client.post("/auth/refresh", json={"refresh_token": tokens["refresh_token"]}).json()
    return refreshed


@pytest.mark.attack(46)
@pytest.mark.parametrize("is_verified", [False, "false", "true", None, 1, "yes"])
@pytest.mark.parametrize("where", ["id_token", "userinfo"])
def test_an_address_that_is_not_vouched_for_links_nothing(
    keel: Keel, visitor: Visitor, account: Callable[..., str], is_verified: object, where: str
) -> None:
    email = account(is_verified=True)
    claims = {"email": email, "email_verified": is_verified}
    if where == "id_token":
        visitor.fake.person |= claims
        visitor.fake.userinfo = {"sub": visitor.fake.person["sub"], "email": email, "email_verified": True}
    else:  # the flag of one document says nothing of the address in another
        visitor.fake.person["email_verified"] = True
        visitor.fake.userinfo = {"sub": visitor.fake.person["sub"], **claims}

    assert visitor.arrive() == {"error": "email_not_verified"}
    assert keel.rows("SELECT id FROM identities WHERE subject = :sub", sub=visitor.fake.person["sub"]) == []
    with keel.client() as client:
        assert client.post("/auth/login", json={"email": email, "password": PASSWORD}).status_code == 200


@pytest.mark.attack(47)
def test_who_squatted_an_address_has_nothing_left_when_its_owner_comes(
    keel: Keel, visitor: Visitor, account: Callable[..., str], fakes: dict[str, FakeProvider]
) -> None:
    email = account(is_verified=False)
    squatter = keel.sign_in(email)
    with keel.client(token=squatter["access_token"]) as client:
        assert link(client, fakes["other"]) == {"linked": "other"}
        pending = client.post(PATH, json={"provider": "other"}).json()["authorize_url"]
        back = fakes["other"].return_from(pending)
        vouch(visitor.fake, email)

        owner = visitor.sign_in()

        late = Visitor(client, fakes["other"]).callback(back)
    with keel.client() as here, keel.client(keel.there) as there:
        assert fragment(late) == {"error": "not_authenticated"}
        keel.assert_ended({"Authorization": f"Bearer {squatter['access_token']}"})
        for process in (here, there):
            refreshed = process.post("/auth/refresh", json={"refresh_token": squatter["refresh_token"]})
            assert refreshed.status_code == 401
        assert here.post("/auth/login", json={"email": email, "password": PASSWORD}).status_code == 401
        assert visitor.me(owner).json()["is_verified"]
        again = Visitor(here, fakes["other"]).arrive()
    assert again == {"error": "email_not_verified"}
    [row] = keel.rows(
        "SELECT count(*) AS number FROM identities i JOIN users u ON u.id = user_id WHERE u.email = :e", e=email
    )
    assert row.number == 1
    letters = keel.mails_about(email, subject="new way to sign in", number=2)  # the squatter's link was told, too
    assert any("has been removed" in str(letter.get_body()) for letter in letters)


@pytest.mark.attack(47)
def test_a_verified_account_is_linked_and_keeps_its_password(
    keel: Keel, visitor: Visitor, account: Callable[..., str]
) -> None:
    email = account(is_verified=True)
    vouch(visitor.fake, email.upper())

    me = visitor.me(visitor.sign_in()).json()

    assert me["email"] == email
    keel.sign_in(email)
    assert keel.mail_to(email, subject="new way to sign in")


@pytest.mark.attack(3, 47)
def test_one_new_person_in_twenty_browsers_has_one_account(keel: Keel, fakes: dict[str, FakeProvider]) -> None:
    fake = fakes["fake"]
    vouch(fake, email := f"{uuid4().hex}@example.com")

    def arrive(number: int) -> dict[str, str]:
        with keel.client(keel.here if number % 2 else keel.there) as client:
            return Visitor(client, fake).arrive()

    with ThreadPoolExecutor(8) as threads:
        results = list(threads.map(arrive, range(20)))

    assert [list(result) for result in results] == [["code"]] * 20
    [row] = keel.rows(
        "SELECT count(*) AS number FROM users JOIN identities i ON i.user_id = users.id WHERE users.email = :e", e=email
    )
    assert row.number == 1


@pytest.mark.attack(48)
def test_an_identity_is_issuer_and_subject_and_never_the_address(
    keel: Keel, visitor: Visitor, fakes: dict[str, FakeProvider]
) -> None:
    subject, other = visitor.fake.person["sub"], fakes["other"]
    vouch(visitor.fake, f"{uuid4().hex}@example.com")
    mine = visitor.me(visitor.sign_in()).json()
    other.person = {"sub": subject, "email": f"{uuid4().hex}@example.com", "email_verified": True}
    theirs = visitor.me(Visitor(visitor.client, other).sign_in()).json()
    vouch(visitor.fake, theirs["email"])

    again = visitor.me(visitor.sign_in()).json()

    assert mine["id"] != theirs["id"]
    assert (again["id"], again["email"]) == (mine["id"], mine["email"])
    assert len(keel.rows("SELECT id FROM identities WHERE subject = :subject", subject=subject)) == 2


@pytest.mark.attack(33, 49)
@pytest.mark.parametrize(
    ("method", "path"), [("POST", PATH), ("DELETE", f"{PATH}/0198c2a0-0000-7000-8000-000000000000")]
)
def test_linking_and_unlinking_need_somebody_who_has_just_signed_in(
    keel: Keel, account: Callable[..., str], method: str, path: str
) -> None:
    old = old_session(keel, account(is_verified=True))
    body = {"provider": "fake"} if method == "POST" else None
    with keel.client() as nobody, keel.client(token=old["access_token"]) as client:
        answers: list[Any] = [each.request(method, path, json=body) for each in (nobody, client)]

    assert [answer.status_code for answer in answers] == [401, 403]
    assert answers[1].json()["code"] == "reauthentication_required"


@pytest.mark.attack(49)
def test_an_identity_of_somebody_else_cannot_be_linked(
    keel: Keel, visitor: Visitor, account: Callable[..., str]
) -> None:
    vouch(visitor.fake, f"{uuid4().hex}@example.com")
    visitor.sign_in()
    eve = keel.sign_in(account(is_verified=True))

    with keel.client(token=eve["access_token"]) as client:
        result = link(client, visitor.fake)
        assert client.get(PATH).json()["items"] == []

    assert result == {"error": "identity_taken"}


@pytest.mark.attack(29, 49)
def test_a_victims_browser_cannot_be_made_to_link_its_identity_to_an_attackers_account(
    keel: Keel, visitor: Visitor, account: Callable[..., str]
) -> None:
    """The attacker begins, and lures the victim to the authorize_url: without the attacker's cookie it ends nowhere."""
    eve = keel.sign_in(account(is_verified=True))
    visitor.authorize()  # the victim has a cookie of their own
    with keel.client(token=eve["access_token"]) as client:
        lure = client.post(PATH, json={"provider": "fake"}).json()["authorize_url"]

        answer = visitor.come_back(lure)

        assert client.get(PATH).json()["items"] == []
    assert answer.json()["code"] == "invalid_state"


@pytest.mark.attack(34)
def test_the_last_way_in_cannot_be_unlinked_by_two_at_once_either(
    keel: Keel, visitor: Visitor, fakes: dict[str, FakeProvider]
) -> None:
    vouch(visitor.fake, f"{uuid4().hex}@example.com")
    tokens = visitor.sign_in()
    with keel.client(token=tokens["access_token"]) as client:
        assert link(client, fakes["other"]) == {"linked": "other"}
        ids = [each["id"] for each in client.get(PATH).json()["items"]]

    def unlink(number: int) -> httpx.Response:
        with keel.client((keel.here, keel.there)[number], token=tokens["access_token"]) as client:
            return client.delete(f"{PATH}/{ids[1 - number]}")

    with ThreadPoolExecutor(2) as threads:
        answers = list(threads.map(unlink, range(2)))

    statuses = sorted(answer.status_code for answer in answers)
    assert statuses in ([204, 401], [204, 409])
    assert len(keel.rows("SELECT id FROM identities WHERE id = ANY(CAST(:ids AS uuid[]))", ids=json_array(ids))) == 1


@pytest.mark.attack(34)
def test_unlinking_ends_what_was_signed_in_through_it_at_both_processes(
    keel: Keel, visitor: Visitor, account: Callable[..., str]
) -> None:
    email = account(is_verified=True)
    vouch(visitor.fake, email)
    through_it, with_password = visitor.sign_in(), keel.sign_in(email)
    with keel.client(token=with_password["access_token"]) as client:
        [identity] = client.get(PATH).json()["items"]
        assert client.delete(f"{PATH}/{identity['id']}").status_code == 204

    keel.assert_ended({"Authorization": f"Bearer {through_it['access_token']}"})
    with keel.client(keel.there) as there:
        after = Visitor(there, visitor.fake).me(with_password).status_code
        refreshed = there.post("/auth/refresh", json={"refresh_token": through_it["refresh_token"]})

    assert after == 200
    assert refreshed.status_code == 401


def json_array(ids: list[str]) -> str:
    return json.dumps(ids).replace("[", "{").replace("]", "}").replace('"', "")
