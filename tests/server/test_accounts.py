from collections.abc import Callable
from email.message import EmailMessage

import pytest
from litestar import Litestar
from litestar.testing import TestClient
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.domain.audit.models import AuditEvent
from app.domain.users.errors import EmailTakenError, LastAdministratorError
from app.domain.users.models import User
from app.lib.errors import InvalidInputError, NotFoundError
from app.lib.passwords import Passwords
from app.server.accounts import Accounts
from tests.conftest import API, SignedIn
from tests.inline_jobs import InlineJobs

pytestmark = pytest.mark.integration
AsUser = Callable[..., SignedIn]


@pytest.fixture
def accounts(client: TestClient[Litestar]) -> Accounts:
    return Accounts(client.app.state.database, Passwords(concurrency=1))


def create(accounts: Accounts, email: str = "Grace@Example.com", *, is_superuser: bool = False) -> str:
    return accounts.create(email=email, first_name="Grace", last_name="Hopper", is_superuser=is_superuser)


def test_the_password_that_is_printed_signs_in(accounts: Accounts, client: TestClient[Litestar]) -> None:
    login = {"email": "grace@example.com", "password": create(accounts)}

    assert client.post(f"{API}/auth/login", json=login).status_code == 200


def test_accounts_are_listed_by_address_and_searched(accounts: Accounts) -> None:
    create(accounts)
    create(accounts, "alan@example.com", is_superuser=True)

    page = accounts.page(q="hopper", limit=1, offset=0)

    assert ([user.email for user in page.items], page.total) == (["alan@example.com"], 2)
    assert accounts.page(q="hopper", limit=1, offset=1).items[0].email == "grace@example.com"


def test_what_an_operator_does_is_in_the_audit_log(accounts: Accounts, session: Session) -> None:
    create(accounts)
    accounts.deactivate("grace@example.com")
    accounts.page(q="hopper", limit=1, offset=0)

    here = select(AuditEvent).where(AuditEvent.source == "command line")
    events = session.scalars(here.order_by(AuditEvent.id)).all()
    assert {(event.actor_id, event.address) for event in events} == {(None, None)}
    assert [event.action for event in events] == ["user.created", "user.activation_changed", "users.listed"]
    assert events[1].changes == {"is_active": [True, False]}


def test_an_account_that_has_been_closed_is_not_listed(accounts: Accounts, as_user: AsUser) -> None:
    ada = as_user()
    ada.delete("/users/me").raise_for_status()

    assert str(ada.user.id) not in {str(user.id) for user in accounts.page(q=None, limit=100, offset=0).items}


def test_who_is_deactivated_is_signed_out_at_once(accounts: Accounts, as_user: AsUser) -> None:
    ada = as_user()

    accounts.deactivate(ada.user.email.upper())

    assert ada.get("/users/me").status_code == 401


def test_the_last_administrator_is_not_deactivated_and_another_may_be_made(
    accounts: Accounts, as_user: AsUser, session: Session
) -> None:
    session.query(User).update({"is_superuser": False})
    root, ada = as_user(is_superuser=True), as_user()
    with pytest.raises(LastAdministratorError):
        accounts.deactivate(root.user.email)

    accounts.make_administrator(ada.user.email)

    accounts.deactivate(root.user.email)
    assert ada.get("/users/me").json()["is_superuser"]


def test_what_cannot_be_is_refused(accounts: Accounts) -> None:
    create(accounts)

    with pytest.raises(EmailTakenError):
        create(accounts)
    with pytest.raises(InvalidInputError):
        create(accounts, "nobody")
    for email in ("nobody", "nobody@example.com"):
        with pytest.raises(NotFoundError):
            accounts.make_administrator(email)


def test_roles_are_given_listed_and_taken(accounts: Accounts, as_user: AsUser) -> None:
    ada = as_user()

    accounts.grant_role(ada.user.email.upper(), "viewer")
    accounts.grant_role(ada.user.email, "editor")

    assert [role.name for role in accounts.roles_of(ada.user.email)] == ["editor", "viewer"]
    assert ada.post("/posts", json={"title": "T", "body": "B"}).status_code == 201
    accounts.revoke_role(ada.user.email, "editor")
    assert [role.name for role in accounts.roles_of(ada.user.email)] == ["viewer"]
    assert ada.post("/posts", json={"title": "T", "body": "B"}).status_code == 403


@pytest.mark.parametrize(("email", "role"), [("nobody@example.com", "viewer"), (None, "nobody"), (None, "viewer")])
def test_nothing_is_taken_that_is_not_there(email: str | None, role: str, accounts: Accounts, as_user: AsUser) -> None:
    with pytest.raises(NotFoundError):
        accounts.revoke_role(email or as_user().user.email, role)


def test_a_password_that_an_operator_resets_is_the_only_way_in(
    accounts: Accounts, as_user: AsUser, client: TestClient[Litestar], jobs: InlineJobs, mailbox: list[EmailMessage]
) -> None:
    ada = as_user()
    login = {"email": ada.user.email, "password": accounts.reset_password(ada.user.email.upper())}
    jobs.run()

    assert ada.get("/users/me").status_code == 401
    assert client.post(f"{API}/auth/login", json=login).status_code == 200
    assert [mail["To"].addresses[0].addr_spec for mail in mailbox] == [ada.user.email]
    assert login["password"] not in str(mailbox[0])


def test_a_password_that_is_taken_lets_nobody_in_and_a_link_for_another_is_sent(
    accounts: Accounts, client: TestClient[Litestar], jobs: InlineJobs, mailbox: list[EmailMessage]
) -> None:
    login = {"email": "grace@example.com", "password": create(accounts)}
    accounts.take_password("grace@example.com")
    jobs.run()

    assert client.post(f"{API}/auth/login", json=login).status_code == 401
    assert "/confirm/password_reset#token=" in str(mailbox[-1])
