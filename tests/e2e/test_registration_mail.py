"""From a registration to the mail: the API, a worker and a mail server, each a process or a thread of its own."""

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import URL, NullPool, create_engine, text

from app.domain.registrations.services import REGISTRATIONS_A_DAY
from tests.live import PASSWORD, LiveServer, LiveWorker, wait_until
from tests.smtp_server import SmtpServer

pytestmark = pytest.mark.e2e

LIMIT = 30.0


@pytest.fixture
def smtp(tmp_path: Path) -> Iterator[SmtpServer]:
    server = SmtpServer(tmp_path)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def api(
    smtp: SmtpServer,
    live_database: URL,
    start_server: Callable[..., LiveServer],
    start_worker: Callable[..., LiveWorker],
) -> LiveServer:
    """The API, and a worker that sends through the mail server."""
    start_worker(live_database, **smtp.settings(ssl_cert_file=smtp.authorities))
    return start_server(live_database)


def stored_jobs(url: URL) -> list[tuple[str, int]]:
    """The status of each job, and how many attempts it took."""
    attempts = "coalesce((convert_from(job, 'UTF8')::jsonb ->> 'attempts')::int, 0)"
    with create_engine(url, poolclass=NullPool).connect() as fresh:
        rows = fresh.execute(text(f"SELECT status, {attempts} AS attempts FROM saq_jobs WHERE key NOT LIKE 'cron:%'"))
        return [(row.status, row.attempts) for row in rows]


def make_due(url: URL) -> None:
    """What waits for its next attempt need not wait any longer."""
    with create_engine(url, poolclass=NullPool).begin() as fresh:
        fresh.execute(text("UPDATE saq_jobs SET scheduled = 0 WHERE key NOT LIKE 'cron:%'"))


def test_of_twenty_registrations_at_once_one_makes_the_account_and_few_of_the_others_send_a_mail(
    live_database: URL, start_server: Callable[..., LiveServer]
) -> None:
    server = start_server(live_database, workers=2)
    account = {"email": "ada@example.com", "password": PASSWORD, "first_name": "Ada", "last_name": "Lovelace"}

    def register(number: int) -> tuple[int, str]:
        """Again, where too many passwords were being hashed at once."""
        with server.client() as client:
            answer = client.post("/auth/register", json=account)
        is_refused = answer.status_code == 503 and "Retry-After" in answer.headers
        return register(number) if is_refused else (answer.status_code, answer.text)

    with ThreadPoolExecutor(20) as threads:
        answers = set(threads.map(register, range(20)))

    assert answers == {(202, '{"email":"ada@example.com","verification_required":false}')}
    with create_engine(live_database, poolclass=NullPool).connect() as fresh:
        assert fresh.scalar(text("SELECT count(*) FROM users")) == 1
        links = fresh.scalars(text("SELECT purpose FROM confirmations")).all()
    assert Counter(links) == {"verification": 1 + REGISTRATIONS_A_DAY, "password_reset": 1}


def test_a_mail_that_is_refused_at_first_arrives_once(api: LiveServer, smtp: SmtpServer, live_database: URL) -> None:
    smtp.refusals = ["451 4.7.1 Try again later"]

    email = api.sign_up()

    def is_done() -> bool:
        make_due(live_database)
        return stored_jobs(live_database) == [("complete", 2)]

    wait_until(is_done, seconds=LIMIT, what=lambda: str(stored_jobs(live_database)))
    [received] = smtp.received
    assert (received.recipients, smtp.refusals) == ([email], [])
    assert (received.tls_version, received.is_authenticated) == ("TLSv1.3", True)
    assert received.message["Subject"] == "Confirm your address at Keel"


def test_registering_with_a_known_address_again_and_again_sends_one_notice(
    api: LiveServer, smtp: SmtpServer, live_database: URL
) -> None:
    today = datetime.now(UTC).date()
    email = api.sign_up()
    with create_engine(live_database, poolclass=NullPool).begin() as fresh:
        fresh.execute(text("UPDATE users SET is_verified = true"))
    account = {"email": email, "password": PASSWORD, "first_name": "Eve", "last_name": "Eve"}

    with api.client() as client:
        for _ in range(3):
            client.post("/auth/register", json=account).raise_for_status()
            wait_until(lambda: set(stored_jobs(live_database)) == {("complete", 1)}, seconds=LIMIT, what="the jobs")

    days = len({today, datetime.now(UTC).date()})
    assert sorted(received.message["Subject"] for received in smtp.received) == [
        "Confirm your address at Keel",
        *["You already have an account at Keel"] * days,
    ]
