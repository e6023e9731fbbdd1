"""How long an answer takes tells nobody who has an account (SECURITY.md, line 36)."""

import logging
import statistics
import time
from collections.abc import Callable, Sequence
from itertools import product
from uuid import uuid4

import httpx
import pytest
from sqlalchemy import URL, NullPool, create_engine, text

from tests.live import PASSWORD, LiveServer

pytestmark = [pytest.mark.e2e, pytest.mark.attack(36)]
logger = logging.getLogger(__name__)

SAMPLES = 50
LIMIT = 0.020
"""Seconds between two medians."""

ACCOUNTS = text("""
    INSERT INTO users SELECT (jsonb_populate_record(users, jsonb_build_object(
        'id', gen_random_uuid(), 'email', gen_random_uuid() || '@example.com', 'is_verified', is_verified_now))).*
    FROM users, generate_series(1, :count), (VALUES (CAST(:is_verified AS boolean))) AS now(is_verified_now)
    WHERE users.email = :model RETURNING email
""")


def accounts(url: URL, *, model: str, is_verified: bool) -> Sequence[str]:
    """A new one for each sample: a second mail to one address would be left out."""
    values = {"count": SAMPLES, "model": model, "is_verified": is_verified}
    with create_engine(url, poolclass=NullPool).begin() as connection:
        return connection.scalars(ACCOUNTS, values).all()


def forgot(client: httpx.Client, email: str) -> httpx.Response:
    return client.post("/auth/password/forgot", json={"email": email})


def ask_again(client: httpx.Client, email: str) -> httpx.Response:
    return client.post("/auth/verification", json={"email": email})


def register(client: httpx.Client, email: str) -> httpx.Response:
    account = {"email": email, "password": PASSWORD, "first_name": "Ada", "last_name": "Lovelace"}
    return client.post("/auth/register", json=account)


@pytest.mark.parametrize("act", [forgot, ask_again, register])
def test_the_time_of_an_answer_tells_nobody_who_has_an_account(
    act: Callable[[httpx.Client, str], httpx.Response], live_database: URL, start_server: Callable[..., LiveServer]
) -> None:
    server = start_server(live_database)
    model = server.sign_up()
    addresses = {
        "unknown": [f"{uuid4().hex}@example.com" for _ in range(SAMPLES)],
        "verified": accounts(live_database, model=model, is_verified=True),
        "unverified": accounts(live_database, model=model, is_verified=False),
    }
    times: dict[str, list[float]] = {kind: [] for kind in addresses}

    with server.client() as client:
        act(client, model)  # what is done once is done
        for number, kind in product(range(SAMPLES), addresses):
            began = time.perf_counter()
            answer = act(client, addresses[kind][number])
            times[kind].append(time.perf_counter() - began)
            assert answer.status_code == 202

    medians = {kind: statistics.median(values) for kind, values in times.items()}
    logger.info("%s: %s", act.__name__, {kind: f"{median * 1000:.1f} ms" for kind, median in medians.items()})
    assert max(medians.values()) - min(medians.values()) < LIMIT
