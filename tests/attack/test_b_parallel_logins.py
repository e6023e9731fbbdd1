"""SECURITY.md, part B: a crowd that signs in. Figures are in tests/load/test_logins_beside_readers.py."""

import asyncio

import psutil
import pytest

from tests.attack.conftest import Keel
from tests.live import PASSWORD
from tests.load.generator import Answer, Client, clients, polling, together

pytestmark = pytest.mark.e2e

LOGINS = 200
MEMORY_LIMIT_MIB = 100


async def log_in(visitor: Client, email: str) -> list[Answer]:
    return [await visitor.request("POST", "/api/v1/auth/login", {"email": email, "password": PASSWORD})]


def resident_mib(process_id: int) -> float:
    main = psutil.Process(process_id)
    return sum(process.memory_info().rss for process in [main, *main.children(recursive=True)]) / 2**20


@pytest.mark.attack(15)
def test_two_hundred_logins_at_once_are_served_or_refused_and_others_are_answered(keel: Keel) -> None:
    email = keel.sign_up()
    token = keel.sign_in(email)["access_token"]
    before = resident_mib(keel.here.process_id)

    async def attack() -> tuple[list[Answer], list[Answer]]:
        async with clients(keel.here.port, token) as [reader], clients(keel.here.port, *[""] * LOGINS) as visitors:
            async with polling(reader, "/api/v1/users/me") as reads:
                logins = await together(log_in(visitor, email) for visitor in visitors)
            return logins, reads

    logins, reads = asyncio.run(attack())

    refused = [answer for answer in logins if answer.status != 200]
    assert 0 < len(refused) < LOGINS
    assert {answer.status for answer in refused} <= {429, 503}
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
    assert {answer.status for answer in reads} == {200}
    assert len(reads) > len(logins) - len(refused)
    assert resident_mib(keel.here.process_id) - before < MEMORY_LIMIT_MIB
