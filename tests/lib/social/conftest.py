from collections.abc import Iterator

import pytest

from app.lib.outgoing import Outgoing
from tests.fake_provider import FakeProvider

LOCAL = Outgoing(allow_private_addresses=True, allow_http=True, seconds=0.6)


@pytest.fixture
def fake() -> Iterator[FakeProvider]:
    with FakeProvider() as fake:
        yield fake
