"""How long a refusal takes must not tell why: SECURITY.md, line 6."""

import logging
import time
from collections.abc import Callable
from itertools import count
from statistics import median

import httpx
import pytest
from sqlalchemy import URL, NullPool, create_engine, text

from tests.live import LiveServer

pytestmark = pytest.mark.e2e
logger = logging.getLogger(__name__)

SAMPLES = 50
TOLERANCE = 0.10
ATTEMPTS = 6
"""The limit is on the server; on a machine that is busy with something else, the median of more samples is taken. An
account may fail six times before it is throttled."""
WRONG = "a wrong password, but long enough"
KINDS = {
    "known": {"active": True, "verified": True},
    "inactive": {"active": False, "verified": True},
    "unverified": {"active": True, "verified": False},
}
NETWORKS = count(1)
COPIES = text("""
    INSERT INTO users SELECT (jsonb_populate_record(users, jsonb_build_object('id', gen_random_uuid(),
        'email', :kind || n || '@example.com', 'is_active', :active, 'is_verified', :verified))).*
    FROM users, generate_series(1, :samples) AS n WHERE email = :email
""")


def copy_account(url: URL, email: str) -> None:
    """For each kind as many accounts as samples, so that none of them is throttled."""
    with create_engine(url, poolclass=NullPool).begin() as connection:
        for kind, states in KINDS.items():
            connection.execute(COPIES, {"kind": kind, "email": email, "samples": SAMPLES, **states})


def refused_after(client: httpx.Client, email: str) -> float:
    """Seconds. Each request comes from a network of its own."""
    number = next(NETWORKS)
    headers = {"X-Forwarded-For": f"198.19.{number // 250}.{number % 250 + 1}"}
    began = time.perf_counter()
    answer = client.post("/auth/login", json={"email": email, "password": WRONG}, headers=headers)
    took = time.perf_counter() - began
    assert (answer.status_code, answer.json()["code"]) == (401, "invalid_credentials")
    return took


def measure(client: httpx.Client, samples: dict[str, list[float]]) -> dict[str, float]:
    """Add as many samples of each kind, taken in turns, so that what slows the machine down slows down all of them.
    Returns the medians."""
    kinds = list(samples)
    for number in range(1, SAMPLES + 1):
        turn = number % len(kinds)
        for kind in kinds[turn:] + kinds[:turn]:
            samples[kind].append(refused_after(client, f"{kind}{number}@example.com"))
    return {kind: median(times) for kind, times in samples.items()}


def difference(medians: dict[str, float]) -> float:
    return max(medians.values()) / min(medians.values()) - 1


def test_why_a_sign_in_was_refused_cannot_be_told_by_the_clock(
    live_database: URL, start_server: Callable[..., LiveServer]
) -> None:
    server = start_server(live_database, require_verified_email=True, trusted_proxies="127.0.0.1/32")
    copy_account(live_database, server.sign_up())

    samples: dict[str, list[float]] = {kind: [] for kind in (*KINDS, "unknown")}
    with server.client() as client:
        medians = measure(client, samples)
        while difference(medians) >= TOLERANCE and len(samples["known"]) < ATTEMPTS * SAMPLES:
            medians = measure(client, samples)
    shown = {kind: f"{seconds * 1000:.1f} ms" for kind, seconds in medians.items()}
    logger.info("medians of %d: %s", len(samples["known"]), shown)

    assert difference(medians) < TOLERANCE, shown
