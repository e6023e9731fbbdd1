"""SECURITY.md, line 72: the audit log says what happened, whoever would rather not have it said."""

from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import httpx
import pyotp
import pytest
from sqlalchemy.exc import ProgrammingError

from tests.attack.conftest import Keel
from tests.attack.test_f_address_changes import FORGOTTEN, NEW, new_email
from tests.attack.test_j_users import Person
from tests.attack.test_totp import Ada
from tests.cookies import meant, sign_in_with_cookies
from tests.fake_provider import FakeProvider
from tests.links import token_in
from tests.live import PASSWORD, wait_until
from tests.visitor import Visitor

pytestmark = pytest.mark.e2e

Events = Callable[..., list[Any]]


@pytest.fixture
def administrator(keel: Keel) -> Person:
    return Person(keel, is_superuser=True)


@pytest.fixture
def about(keel: Keel) -> Events:
    """What was done to an account, in this order."""

    def read(email: str) -> list[Any]:
        return keel.rows(
            "SELECT * FROM audit_events WHERE subject_type = 'user' AND subject_id = "
            "(SELECT id::text FROM users WHERE email = :email) ORDER BY id",
            email=email,
        )

    return read


@pytest.fixture
def there(keel: Keel) -> Iterator[httpx.Client]:
    with keel.client(keel.there) as client:
        yield client


def said(events: list[Any]) -> list[tuple[str, str]]:
    return [(event.action, event.outcome) for event in events]


@pytest.mark.attack(72)
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_events SET actor_id = NULL",
        "DELETE FROM audit_events",
        "TRUNCATE audit_events CASCADE",
        "SET LOCAL keel.audit_retention = 1; UPDATE audit_events SET outcome = 'success'",
        "SET LOCAL keel.audit_retention = 1; DELETE FROM audit_events",
        "SET LOCAL keel.audit_retention = -9; DELETE FROM audit_events",
    ],
)
def test_what_is_written_down_stays_whoever_has_the_database_account_of_the_application(
    keel: Keel, about: Events, statement: str
) -> None:
    email = keel.sign_up()

    with pytest.raises(ProgrammingError, match="audit events are neither changed nor removed"):
        keel.write(statement)

    assert said(about(email)) == [("user.registered", "success")]


@pytest.mark.attack(72)
def test_a_guess_is_written_down_at_either_process_and_what_was_typed_is_not(
    keel: Keel, about: Events, there: httpx.Client
) -> None:
    email, guess, typed = keel.sign_up(), f"guess {uuid4()}", f"{uuid4().hex} my password, in the wrong field"
    with keel.client() as here:
        for client in (here, there):
            assert client.post("/auth/login", json={"email": email, "password": guess}).status_code == 401
        nobody = here.post("/auth/login", json={"email": f"{guess}@example.com", "password": PASSWORD})
        mistake = here.post("/auth/login", json={"email": typed, "password": email})
    keel.sign_in(email)

    *guesses, good = about(email)[1:]
    assert said(guesses) == [("session.created", "failure")] * 2
    assert {(event.actor_id, event.count, event.details["reason"]) for event in guesses} == {
        (None, 1, "invalid_credentials")
    }
    assert (good.outcome, str(good.actor_id)) == ("success", good.subject_id)
    for answer in (nobody, mistake):
        [event] = keel.rows("SELECT * FROM audit_events WHERE request_id = :id", id=answer.headers["X-Request-ID"])
        assert (event.action, event.outcome, event.subject_id) == ("session.created", "failure", None)
    everything = "SELECT count(*) FROM audit_events AS event WHERE position(:text IN event::text) > 0"
    assert [keel.rows(everything, text=text)[0][0] for text in (guess, typed, PASSWORD)] == [0, 0, 0]


@pytest.mark.attack(72)
def test_a_wrong_second_factor_is_one_event_and_says_so(keel: Keel, about: Events) -> None:
    ada = Ada(keel)
    before = len(about(ada.email))

    statuses = [ada.sign_in(code, keel.there).status_code for code in ("000000", None, ada.next_code)]

    assert statuses == [401, 401, 200]
    events = about(ada.email)[before:]
    assert said(events) == [("session.created", outcome) for outcome in ("failure", "failure", "success")]
    assert [event.details.get("reason") for event in events] == ["wrong_code", "totp_required", None]


@pytest.mark.attack(72)
def test_no_secret_is_ever_in_it(keel: Keel, about: Events, there: httpx.Client) -> None:
    email = keel.sign_up()
    [row] = keel.rows("SELECT password_hash FROM users WHERE email = :email", email=email)
    tokens = keel.sign_in(email)
    secrets = [PASSWORD, NEW, row.password_hash, *(tokens[name] for name in ("access_token", "refresh_token"))]
    there.headers["Authorization"] = f"Bearer {tokens['access_token']}"
    totp = there.post("/users/me/totp").json()["secret"]
    confirmed = there.post("/users/me/totp/confirm", json={"totp": pyotp.TOTP(totp).now()}).json()
    key = there.post("/users/me/api-keys", json={"name": "import", "scopes": ["items:read"]}).json()["key"]
    there.put("/users/me/password", json={"current_password": PASSWORD, "password": NEW}).raise_for_status()
    there.post("/auth/password/forgot", json={"email": email}).raise_for_status()
    link = token_in(keel.mail_to(email, subject=FORGOTTEN))
    there.post("/auth/password/reset", json={"token": link, "password": f"{NEW}!"}).raise_for_status()
    secrets += [totp, *confirmed["recovery_codes"], key, link, f"{NEW}!"]

    written = [event._asdict() for event in about(email)]

    assert len(written) > 7
    assert [secret for secret in secrets if secret in str(written)] == []


@pytest.mark.attack(72)
def test_browsers_and_their_sign_outs_are_in_it(keel: Keel, about: Events) -> None:
    email = keel.sign_up()
    agent = {"User-Agent": 'Firefox/1 Windows "]} <script>%0d%0a'}
    with keel.client(keel.there, headers=agent) as browser:
        csrf = sign_in_with_cookies(browser, email)
        browser.post("/auth/cookie/logout", headers=meant(csrf)).raise_for_status()

    registered, began, ended = about(email)
    assert said([registered, began, ended]) == [
        ("user.registered", "success"),
        ("session.created", "success"),
        ("session.ended", "success"),
    ]
    assert began.details["device"] == "Firefox on Windows"
    assert [began.details["session_id"]] == ended.details["session_ids"]
    assert str(ended.actor_id) == ended.subject_id
    assert ended.address == browser.headers["X-Forwarded-For"]


@pytest.mark.attack(72)
def test_a_refused_sign_in_with_a_provider_is_in_it(keel: Keel, fakes: dict[str, FakeProvider]) -> None:
    request_id = uuid4().hex
    fakes["fake"].person |= {"email": new_email(), "email_verified": False}
    with keel.client(keel.there, headers={"X-Request-ID": request_id}) as client:
        assert Visitor(client, fakes["fake"]).arrive() == {"error": "email_not_verified"}
        exchange = client.post("/auth/providers/exchange", json={"code": "x" * 43})

    assert exchange.status_code == 401
    events = keel.rows("SELECT * FROM audit_events WHERE request_id = :id ORDER BY id", id=request_id)
    assert said(events) == [("session.created", "failure")] * 2
    assert [event.details["reason"] for event in events] == ["email_not_verified", "invalid_code"]


@pytest.mark.attack(72)
def test_an_act_that_is_refused_and_rolled_back_is_in_it_as_a_failure(
    keel: Keel, about: Events, administrator: Person
) -> None:
    victim, taken = keel.sign_up(), keel.sign_up()
    [row] = keel.rows("SELECT id FROM users WHERE email = :email", email=victim)
    with administrator.client() as client:
        answer = client.patch(f"/users/{row.id}", json={"email": taken, "is_active": False})

    assert answer.status_code == 409
    assert keel.rows("SELECT is_active FROM users WHERE email = :email", email=victim)[0].is_active
    events = about(victim)[1:]
    assert sorted(said(events)) == [("email.changed", "failure"), ("user.activation_changed", "failure")]
    assert {event.actor_id for event in events} == {administrator.id}
    assert [event.changes for event in events if event.action == "email.changed"] == [{"email": [victim, taken]}]


@pytest.mark.attack(72)
def test_line_breaks_of_an_attacker_forge_no_line_and_no_event(keel: Keel, administrator: Person) -> None:
    forged = f"FORGED-{uuid4().hex}"
    key = f"x\r\n2026-01-01 [info] {forged}"
    with administrator.client() as client:
        answer = client.post(f"/jobs/{quote(key)}/retry")
        odd_id = client.get("/users", headers={"X-Request-ID": "a\tb' OR 1=1"}).headers["X-Request-ID"]

    assert answer.status_code == 404
    [event] = keel.rows("SELECT * FROM audit_events WHERE request_id = :id", id=answer.headers["X-Request-ID"])
    assert (event.action, event.subject_id, event.outcome) == ("job.retried", key, "failure")
    assert len(keel.rows("SELECT 1 FROM audit_events WHERE request_id = :id", id=odd_id)) == 1
    logs = "".join(process.log.read_text(errors="replace") for process in keel.processes)
    assert [line for line in logs.splitlines() if line.startswith("2026-01-01") and forged in line] == []


@pytest.mark.attack(72)
def test_it_is_read_by_administrators_only_and_written_by_nobody(keel: Keel, administrator: Person) -> None:
    ada = Person(keel)
    with ada.client() as client:
        assert client.get("/audit-events").status_code == 403
        key = client.post("/users/me/api-keys", json={"name": "spy", "scopes": ["audit:read"]}).json()["key"]
    with keel.client(keel.there, token=key) as client:
        assert client.get("/audit-events").status_code == 403
    with administrator.client() as client:
        seen = client.get("/audit-events", params={"subject_id": str(ada.id), "sort": "created_at"}).json()["items"]
        statuses = {
            client.request(method, path, json={}).status_code
            for method in ("POST", "PUT", "PATCH", "DELETE")
            for path in ("/audit-events", f"/audit-events/{seen[0]['id']}")
        }

    assert [event["action"] for event in seen] == ["user.registered", "session.created", "api_key.created"]
    assert statuses <= {404, 405}


@pytest.mark.attack(72)
def test_a_refused_decision_is_in_it_with_what_it_depended_on(keel: Keel, administrator: Person) -> None:
    ada = Person(keel)
    with administrator.client() as client:
        post = client.post("/posts", json={"title": "News", "body": "None.", "published": True}).json()
        client.put(f"/users/{ada.id}/roles/viewer").raise_for_status()
    denied = "SELECT * FROM audit_events WHERE actor_id = :id AND outcome = 'denied' ORDER BY id"
    with ada.client() as client:
        wait_until(lambda: client.get(f"/posts/{post['id']}").is_success, seconds=5)
        assert client.patch(f"/posts/{post['id']}", json={"title": "Mine"}).status_code == 403
        wait_until(lambda: any(event.permission == "posts:update" for event in keel.rows(denied, id=ada.id)), seconds=5)

    event: Any = keel.rows(denied, id=ada.id)[-1]
    assert (event.action, event.permission, event.count) == ("access.denied", "posts:update", 1)
    assert event.attributes == {"id": post["id"], "owner_id": str(administrator.id), "published": True}


@pytest.mark.attack(72)
def test_who_looks_at_other_people_is_seen(keel: Keel, about: Events, administrator: Person) -> None:
    ada = Person(keel)
    with administrator.client() as client:
        shown = client.get(f"/users/{ada.id}")
        head = client.head(f"/users/{ada.id}")
        rights = [client.get(f"/users/{ada.id}/{what}") for what in ("roles", "permissions")]
        listed = client.get("/users", params={"q": ada.email})
        unchanged = client.patch(f"/users/{ada.id}", json={"first_name": shown.json()["first_name"]})

    assert {answer.status_code for answer in (shown, head, *rights, listed, unchanged)} == {200}
    seen = [(event.actor_id, event.permission) for event in about(ada.email) if event.action == "user.read"]
    assert seen == [*[(administrator.id, "users:read")] * 4, (administrator.id, "users:update")]
    [event] = keel.rows("SELECT * FROM audit_events WHERE request_id = :id", id=listed.headers["X-Request-ID"])
    assert (event.action, event.details) == ("users.listed", {"q": ada.email, "offset": 0, "shown": 1})
