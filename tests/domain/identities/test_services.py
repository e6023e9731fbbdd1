"""Linking, unlinking, the exchange of codes, and arriving with cookies."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import httpx
import pyotp
import pytest
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from app.domain.identities.models import Identity, SignInCode
from app.domain.identities.services import MAX_TRIES
from app.domain.sessions.models import UserSession
from app.domain.users.models import User
from app.lib.db.models import utc_now
from tests.conftest import API, SignedIn
from tests.factories.identities import IdentityFactory
from tests.visitor import Visitor, fragment

pytestmark = pytest.mark.integration


def link(visitor: Visitor, user: SignedIn) -> dict[str, str]:
    answer = user.post("/users/me/identities", json={"provider": "fake", "next": "/settings"})
    assert answer.status_code == 200, answer.text
    return fragment(visitor.come_back(answer.json()["authorize_url"]))


def test_a_provider_is_linked_listed_used_and_unlinked(
    visitor: Visitor, as_user: Callable[..., SignedIn], jobs: Any, mailbox: list[Any]
) -> None:
    ada = as_user(password_hash="a hash")

    assert link(visitor, ada) == {"linked": "fake"}
    [identity] = ada.get("/users/me/identities").json()["items"]
    through_it = visitor.sign_in()
    unlinked = ada.delete(f"/users/me/identities/{identity['id']}")
    jobs.run()

    assert identity["provider"] == "fake"
    assert unlinked.status_code == 204
    assert visitor.me(through_it).status_code == 401
    assert ada.get("/users/me/identities").json()["items"] == []
    assert [mail["Subject"] for mail in mailbox] == ["A new way to sign in to Keel"]


def test_linking_twice_changes_nothing(visitor: Visitor, as_user: Callable[..., SignedIn]) -> None:
    ada = as_user()

    assert [link(visitor, ada), link(visitor, ada)] == [{"linked": "fake"}] * 2
    assert len(ada.get("/users/me/identities").json()["items"]) == 1


def test_an_identity_of_somebody_else_is_not_linked(visitor: Visitor, as_user: Callable[..., SignedIn]) -> None:
    ada, eve = as_user(), as_user()
    link(visitor, ada)

    assert link(visitor, eve) == {"error": "identity_taken"}
    assert eve.get("/users/me/identities").json()["items"] == []


def test_linking_proves_ones_own_address_and_no_other(
    visitor: Visitor, as_user: Callable[..., SignedIn], session: Session
) -> None:
    ada = as_user(email="ada@example.com", is_verified=False)
    visitor.fake.person |= {"email": "other@example.com", "email_verified": True}
    link(visitor, ada)
    assert not session.scalar(select(User.is_verified).where(User.id == ada.user.id))

    visitor.fake.person = {"sub": "2", "email": "ada@example.com", "email_verified": True}
    link(visitor, ada)

    assert session.scalar(select(User.is_verified).where(User.id == ada.user.id))


def test_a_session_that_has_ended_meanwhile_links_nothing(
    visitor: Visitor, as_user: Callable[..., SignedIn], session: Session
) -> None:
    ada = as_user()
    answer = ada.post("/users/me/identities", json={"provider": "fake"})
    ada.post("/auth/logout")

    assert fragment(visitor.come_back(answer.json()["authorize_url"])) == {"error": "not_authenticated"}
    assert session.scalars(select(Identity)).all() == []


def test_the_last_way_in_stays(visitor: Visitor, as_user: Callable[..., SignedIn], session: Session) -> None:
    ada = as_user(password_hash=None)
    link(visitor, ada)
    session.add(IdentityFactory.build(user_id=ada.user.id))  # of a provider that is no longer configured
    session.commit()
    usable = next(each for each in ada.get("/users/me/identities").json()["items"] if each["provider"] == "fake")
    mine = session.scalars(select(Identity).where(Identity.issuer == visitor.fake.issuer)).one()

    refused = ada.delete(f"/users/me/identities/{mine.id}")

    assert usable["id"] == str(mine.id)
    assert (refused.status_code, refused.json()["code"]) == (409, "last_sign_in_method")
    assert len(ada.get("/users/me/identities").json()["items"]) == 2


def test_nobody_unlinks_what_is_somebody_elses(visitor: Visitor, as_user: Callable[..., SignedIn]) -> None:
    ada, eve = as_user(password_hash="a hash"), as_user(password_hash="a hash")
    link(visitor, ada)
    [identity] = ada.get("/users/me/identities").json()["items"]

    answers = [eve.delete(f"/users/me/identities/{each}") for each in (identity["id"], uuid4())]

    assert [answer.status_code for answer in answers] == [404, 404]
    assert len(ada.get("/users/me/identities").json()["items"]) == 1


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [("POST", "", {"provider": "fake"}), ("DELETE", "/0199d6b5-3c30-7000-8000-000000000000", None)],
)
def test_linking_and_unlinking_want_a_recent_sign_in(
    visitor: Visitor, as_user: Callable[..., SignedIn], clock: Any, method: str, path: str, body: Any
) -> None:
    ada = as_user()
    clock.shift(timedelta(minutes=11))

    answer = ada.request(method, f"/users/me/identities{path}", json=body)

    assert (answer.status_code, answer.json()["code"]) == (403, "reauthentication_required")


def test_sessions_of_other_identities_outlive_an_unlinking(
    visitor: Visitor, as_user: Callable[..., SignedIn], session: Session
) -> None:
    ada = as_user(password_hash="a hash")
    link(visitor, ada)
    [identity] = ada.get("/users/me/identities").json()["items"]
    visitor.sign_in()

    ada.delete(f"/users/me/identities/{identity['id']}")

    ended = session.execute(select(UserSession.identity_id, UserSession.revocation_reason)).all()
    assert sorted((str(row[0]), str(row[1])) for row in ended) == [("None", "None"), ("None", "identity_unlinked")]


class TestExchange:
    @pytest.fixture
    def code(self, visitor: Visitor) -> str:
        visitor.fake.person |= {"email": "ada@example.com", "email_verified": True}
        return visitor.arrive()["code"]

    def test_a_code_works_once(self, visitor: Visitor, code: str) -> None:
        answers = [visitor.exchange(code).status_code for _ in range(2)]

        assert answers == [200, 401]

    def test_a_code_ends_after_a_minute(self, visitor: Visitor, code: str, session: Session) -> None:
        session.execute(update(SignInCode).values(expires_at=utc_now() - timedelta(seconds=1)))
        session.commit()

        assert visitor.exchange(code).status_code == 401

    def test_our_own_pages_have_to_bring_the_cookie(self, visitor: Visitor, code: str) -> None:
        kept = visitor.client.cookies["keel-flow"]
        visitor.client.cookies.clear()
        without = visitor.exchange(code)
        foreign = visitor.exchange(code, headers={"Cookie": f"keel-flow={'x' * 43}"})
        with_it = visitor.exchange(code, headers={"Cookie": f"keel-flow={kept}"})

        assert [without.status_code, foreign.status_code, with_it.status_code] == [401, 401, 200]

    @pytest.mark.parametrize(("site", "status"), [("same-site", 401), ("same-origin", 401), ("cross-site", 200)])
    def test_other_origins_have_to_where_a_browser_would_send_it(
        self, visitor: Visitor, code: str, session: Session, site: str, status: int
    ) -> None:
        session.execute(update(SignInCode).values(needs_browser=False))
        session.commit()
        visitor.client.cookies.clear()

        assert visitor.exchange(code, headers={"Sec-Fetch-Site": site}).status_code == status

    def test_tries_are_counted(self, visitor: Visitor, code: str) -> None:
        foreign = {"Cookie": f"keel-flow={'x' * 43}"}
        kept = {"Cookie": f"keel-flow={visitor.client.cookies['keel-flow']}"}
        visitor.client.cookies.clear()
        for _ in range(MAX_TRIES):
            visitor.exchange(code, headers=foreign)

        assert visitor.exchange(code, headers=kept).status_code == 401

    @pytest.mark.parametrize("code", ["", "x", "\ud800", "x" * 129])
    def test_anything_else_is_no_code(self, visitor: Visitor, code: str) -> None:
        answer = visitor.client.post(
            f"{API}/auth/providers/exchange",
            content=f'{{"code": "{ascii(code)[1:-1]}"}}',
            headers={"Content-Type": "application/json"},
        )

        assert answer.status_code in {400, 401}

    def test_a_browser_may_have_cookies_for_it(self, visitor: Visitor, code: str) -> None:
        answer = visitor.client.post(f"{API}/auth/cookie/exchange", json={"code": code})

        assert answer.status_code == 204
        assert visitor.client.get(f"{API}/users/me").json()["email"] == "ada@example.com"
        assert answer.headers["X-CSRF-Token"]

    def test_a_foreign_page_has_no_cookies_for_it(self, visitor: Visitor, code: str) -> None:
        headers = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}

        answer = visitor.client.post(f"{API}/auth/cookie/exchange", json={"code": code}, headers=headers)

        assert answer.status_code == 403
        assert visitor.exchange(code).status_code == 200

    def test_the_second_factor_is_asked_for_as_well(
        self, visitor: Visitor, as_user: Callable[..., SignedIn], clock: Any
    ) -> None:
        ada = as_user(email="ada@example.com")
        totp = pyotp.TOTP(ada.post("/users/me/totp").json()["secret"])
        assert ada.post("/users/me/totp/confirm", json={"totp": totp.at(utc_now())}).status_code == 200
        clock.shift(timedelta(seconds=30))
        visitor.fake.person |= {"email": "ada@example.com", "email_verified": True}
        visitor.fake.claims = {"iat": int(utc_now().timestamp()), "exp": int(utc_now().timestamp()) + 60}
        arrived = arrive_at(visitor, "/done")
        assert "keel-access" not in visitor.client.cookies  # no cookies before the second factor
        body = {"code": fragment(arrived)["code"]}

        answers = [
            visitor.client.post(f"{API}/auth/providers/exchange", json=body | more)
            for more in ({}, {"totp": "000000"}, {"totp": totp.at(utc_now())}, {"totp": totp.at(utc_now())})
        ]

        assert [answer.status_code for answer in answers] == [401, 400, 200, 401]
        assert answers[0].json()["code"] == "totp_required"

    def test_a_reclaimed_account_has_neither_the_second_factor_nor_the_keys_of_who_made_it(
        self, visitor: Visitor, as_user: Callable[..., SignedIn]
    ) -> None:
        squatter = as_user(email="ada@example.com", is_verified=False)
        totp = pyotp.TOTP(squatter.post("/users/me/totp").json()["secret"])
        assert squatter.post("/users/me/totp/confirm", json={"totp": totp.at(utc_now())}).status_code == 200
        key = squatter.post("/users/me/api-keys", json={"name": "a way back", "scopes": ["items:read"]})
        headers = {"Authorization": f"Bearer {key.json()['key']}"}
        assert visitor.client.get(f"{API}/items", headers=headers).status_code == 200
        visitor.fake.person |= {"email": "ada@example.com", "email_verified": True}

        assert visitor.me(visitor.sign_in()).json()["is_verified"]
        assert visitor.client.get(f"{API}/items", headers=headers).status_code == 401


def arrive_at(visitor: Visitor, destination: str) -> httpx.Response:
    url = visitor.authorize(destination, mode=None).headers["Location"]
    return visitor.come_back(str(url))


def test_a_path_of_ours_is_reached_signed_in_by_cookies(visitor: Visitor, verified: Callable[..., Any]) -> None:
    verified("ada@example.com")

    answer = arrive_at(visitor, "/done")

    assert (answer.status_code, answer.headers["Location"]) == (302, "/done")
    assert visitor.client.get(f"{API}/users/me").json()["email"] == "ada@example.com"


def test_a_second_arrival_replaces_the_session_of_the_first(
    visitor: Visitor, verified: Callable[..., Any], session: Session
) -> None:
    verified("ada@example.com")

    for _ in range(2):
        arrive_at(visitor, "/done")

    reasons = session.scalars(select(UserSession.revocation_reason).order_by(UserSession.created_at)).all()
    assert reasons == ["replaced", None]


def test_another_origin_is_never_given_cookies(visitor: Visitor, verified: Callable[..., Any]) -> None:
    verified("ada@example.com")

    answer = arrive_at(visitor, "http://localhost:8000/done")

    assert "code" in fragment(answer)
    assert visitor.client.get(f"{API}/users/me").status_code == 401
