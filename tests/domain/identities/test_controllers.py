from collections.abc import Callable
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from litestar import Litestar
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from app.domain.confirmations.models import Purpose
from app.domain.confirmations.services import ConfirmationService
from app.domain.identities.models import AuthorizationRequest, Identity, SignInCode
from app.domain.sessions.models import UserSession
from app.domain.users.models import User
from app.lib.db.models import utc_now
from tests.conftest import API
from tests.factories.identities import IdentityFactory
from tests.factories.users import UserFactory
from tests.fake_provider import answer_error, answer_json
from tests.links import token_in
from tests.visitor import Visitor, fragment

pytestmark = pytest.mark.integration


def test_providers_are_listed_with_where_to_send_a_browser(visitor: Visitor) -> None:
    answer = visitor.client.get(f"{API}/auth/providers")

    assert [each["name"] for each in answer.json()] == ["fake", "other", "github"]
    assert answer.json()[0] == {
        "name": "fake",
        "label": "Fake",
        "authorize_url": f"http://localhost:8000{API}/auth/providers/fake/authorize",
    }


def test_somebody_new_signs_in_and_has_an_account(
    visitor: Visitor, verified: Callable[..., Any], session: Session, jobs: Any, mailbox: list[Any]
) -> None:
    verified("Ada@Example.com", given_name="Ada", family_name="Lovelace")

    me = visitor.me(visitor.sign_in()).json()
    jobs.run()

    assert (me["email"], me["first_name"], me["is_verified"]) == ("ada@example.com", "Ada", True)
    assert session.scalar(select(User.password_hash).where(User.email == "ada@example.com")) is None
    row = session.scalars(select(UserSession)).one()
    assert row.identity_id == session.scalars(select(Identity.id)).one()
    assert mailbox == []


def test_the_same_person_is_the_same_account_whatever_their_address_has_become(
    visitor: Visitor, verified: Callable[..., Any], session: Session
) -> None:
    verified("ada@example.com")
    first = visitor.me(visitor.sign_in()).json()
    visitor.fake.person |= {"email": "victim@example.com", "email_verified": False}

    second = visitor.me(visitor.sign_in()).json()

    assert second == first | {"last_login": second["last_login"]}
    assert session.scalars(select(Identity)).one().email == "victim@example.com"


def test_a_known_verified_address_is_linked_and_its_owner_is_told(
    visitor: Visitor, verified: Callable[..., Any], session: Session, jobs: Any, mailbox: list[Any]
) -> None:
    user = UserFactory.build(email="ada@example.com", password_hash="kept")
    session.add(user)
    session.commit()
    verified("ADA@example.com")

    me = visitor.me(visitor.sign_in()).json()
    visitor.sign_in()
    jobs.run()

    assert me["id"] == str(user.id)
    assert [mail["Subject"] for mail in mailbox] == ["A new way to sign in to Keel"]
    session.refresh(user)
    assert user.password_hash == "kept"


def test_an_unproved_account_is_reclaimed_with_nothing_of_the_one_who_made_it(
    visitor: Visitor,
    verified: Callable[..., Any],
    as_user: Callable[..., Any],
    session: Session,
    jobs: Any,
    mailbox: Any,
) -> None:
    squatter = as_user(email="ada@example.com", is_verified=False, password_hash="theirs", phone="+44 20 7946 0000")
    session.add(IdentityFactory.build(user_id=squatter.user.id))
    session.commit()
    verified("ada@example.com", given_name="Ada", family_name="Lovelace")

    me = visitor.me(visitor.sign_in()).json()
    jobs.run()

    assert (me["id"], me["is_verified"], me["phone"]) == (str(squatter.user.id), True, None)
    assert squatter.get("/users/me").status_code == 401
    assert session.scalar(select(User.password_hash).where(User.id == squatter.user.id)) is None
    assert session.scalars(select(Identity.issuer)).all() == [visitor.fake.issuer]
    assert "has been removed" in mailbox[0].get_body().get_content()


def test_no_new_account_stands_in_the_way_of_one_that_can_be_taken_back(
    visitor: Visitor, verified: Callable[..., Any], session: Session, jobs: Any, mailbox: list[Any]
) -> None:
    user = UserFactory.build(email="thief@example.com")
    session.add(user)
    session.flush()
    ConfirmationService(session).issue(Purpose.EMAIL_UNDO, user, email="ada@example.com", is_beside=True)
    session.commit()
    verified("ada@example.com")

    assert [visitor.arrive() for _ in range(2)] == [{"error": "address_reserved"}] * 2
    jobs.run()

    assert session.scalar(select(func.count()).where(User.email == "ada@example.com")) == 0
    assert [mail["Subject"] for mail in mailbox] == ["Your address at Keel was changed"]
    undo = {"token": token_in(mailbox[0])}
    assert visitor.client.post(f"{API}/auth/email/undo", json=undo).json() == {"email": "ada@example.com"}


@pytest.mark.parametrize("is_verified", [False, "true", "false", None, 1])
@pytest.mark.parametrize("has_account", [True, False])
def test_an_address_that_the_provider_does_not_vouch_for_leads_nowhere(
    visitor: Visitor, session: Session, *, is_verified: object, has_account: bool
) -> None:
    if has_account:
        session.add(UserFactory.build(email="ada@example.com"))
        session.commit()
    visitor.fake.person |= {"email": "ada@example.com", "email_verified": is_verified}

    assert visitor.arrive() == {"error": "email_not_verified"}
    assert session.scalar(select(func.count()).select_from(Identity)) == 0
    assert session.scalar(select(func.count()).select_from(User)) == int(has_account)


def test_without_any_address_there_is_no_account(visitor: Visitor) -> None:
    assert visitor.arrive() == {"error": "email_not_verified"}


def test_a_deactivated_account_stays_closed(visitor: Visitor, verified: Callable[..., Any], session: Session) -> None:
    verified("ada@example.com")
    visitor.sign_in()
    session.execute(update(User).values(is_active=False))
    session.commit()

    assert visitor.arrive() == {"error": "sign_in_refused"}


def test_an_account_that_is_deactivated_before_the_exchange_is_closed_as_well(
    visitor: Visitor, verified: Callable[..., Any], session: Session
) -> None:
    verified("ada@example.com")
    code = visitor.arrive()["code"]
    session.execute(update(User).values(is_active=False))
    session.commit()

    assert visitor.exchange(code).json()["code"] == "invalid_code"


def test_one_subject_at_two_providers_is_two_identities(
    visitor: Visitor, verified: Callable[..., Any], other: Any, session: Session
) -> None:
    verified("ada@example.com")
    first = visitor.me(visitor.sign_in()).json()
    other.person = {"sub": visitor.fake.person["sub"], "email": "eve@example.com", "email_verified": True}

    second = visitor.me(Visitor(visitor.client, other, prefix=API).sign_in()).json()

    assert first["id"] != second["id"]
    assert len(session.scalars(select(Identity)).all()) == 2


def test_github_signs_in_by_its_number(visitor: Visitor, session: Session) -> None:
    addresses = [{"email": "ada@example.com", "primary": True, "verified": True}]
    visitor.fake.answers |= {"/user": answer_json({"id": 7, "login": "ada"}), "/user/emails": answer_json(addresses)}

    visitor.fake.name = "github"
    me = visitor.me(visitor.sign_in()).json()

    assert (me["email"], me["first_name"]) == ("ada@example.com", "ada")
    found = session.scalars(select(Identity)).one()
    assert (found.issuer, found.subject, found.provider) == ("https://github.com", "7", "github")


def test_names_are_as_somebody_could_have_typed_them(visitor: Visitor, verified: Callable[..., Any]) -> None:
    verified("ada@example.com", given_name="=?utf-8?q?x\u202e\r\nBcc:", family_name="L" * 300)

    me = visitor.me(visitor.sign_in()).json()

    assert (me["first_name"], me["last_name"]) == ("utf-8?q?xBcc:", "L" * 100)


def test_without_a_name_the_account_has_that_of_its_mailbox(visitor: Visitor, verified: Callable[..., Any]) -> None:
    verified("ada@example.com", given_name="\u202e ")

    assert visitor.me(visitor.sign_in()).json()["first_name"] == "ada"


@pytest.mark.parametrize(
    ("error", "shown"),
    [("access_denied", "access_denied"), ("server_error", "sign_in_refused"), ("<x>", "sign_in_refused")],
)
def test_what_the_provider_says_when_it_refuses_is_not_repeated(visitor: Visitor, error: str, shown: str) -> None:
    back = visitor.come_back(visitor.authorize().headers["Location"], code=None, error=error)

    assert fragment(back) == {"error": shown}


def test_a_provider_that_is_down_is_an_error_of_the_frontend_or_a_problem_before(visitor: Visitor) -> None:
    url = visitor.authorize().headers["Location"]
    visitor.fake.answers["/token"] = answer_error

    assert fragment(visitor.come_back(url)) == {"error": "provider_unavailable"}


def test_an_unknown_provider_is_not_found(visitor: Visitor) -> None:
    visitor.fake.name = "facebook"

    assert visitor.authorize().status_code == 404
    assert visitor.callback({"state": "x"}).status_code == 404


def test_the_cookie_is_the_browsers_alone_and_serves_two_tabs(visitor: Visitor, verified: Callable[..., Any]) -> None:
    verified("ada@example.com")
    one, two = visitor.authorize("/one"), visitor.authorize("/two")

    assert "HttpOnly" in one.headers["Set-Cookie"]
    assert "SameSite=lax" in one.headers["Set-Cookie"]
    answers = [visitor.come_back(each.headers["Location"]).headers["Location"] for each in (one, two)]
    assert [urlsplit(each).path for each in answers] == ["/one", "/two"]


def test_nothing_in_the_tables_can_be_used(visitor: Visitor, verified: Callable[..., Any], session: Session) -> None:
    verified("ada@example.com")
    url = visitor.authorize().headers["Location"]
    code = fragment(visitor.come_back(url))["code"]
    asked = parse_qs(urlsplit(url).query)
    secrets = [asked["state"][0], asked["nonce"][0], code, visitor.client.cookies["keel-flow"]]

    stored = [repr(vars(row)) for model in (AuthorizationRequest, SignInCode) for row in session.scalars(select(model))]

    assert len(stored) == 2
    assert not [secret for secret in secrets for row in stored if secret in row]


def test_no_connection_is_held_while_the_provider_is_asked(
    app: Litestar, visitor: Visitor, verified: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    verified("ada@example.com")
    provider, database = app.state.providers.get("fake"), app.state.database
    open_units: list[int] = []
    seen: list[int] = []
    write = database.write

    def counted(work: Any) -> Any:
        open_units.append(1)
        try:
            return write(work)
        finally:
            open_units.pop()

    def watched(name: str) -> None:
        real = getattr(provider, name)

        def call(*given: Any) -> Any:
            seen.append(len(open_units))
            return real(*given)

        monkeypatch.setattr(provider, name, call)

    monkeypatch.setattr(database, "write", counted)
    watched("identify")
    watched("authorization_url")
    visitor.arrive()

    assert seen == [0, 0]


def test_an_expired_request_is_over(visitor: Visitor, session: Session) -> None:
    url = visitor.authorize().headers["Location"]
    session.execute(update(AuthorizationRequest).values(expires_at=utc_now() - timedelta(seconds=1)))
    session.commit()

    assert visitor.come_back(url).json()["code"] == "invalid_state"
