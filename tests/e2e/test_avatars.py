"""A public picture is kept by every process, and forgotten by all when its owner removes it."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from urllib.parse import urlsplit

import httpx
import pytest
from sqlalchemy import URL

from tests.live import LiveServer, wait_until
from tests.redis_server import RedisServer
from tests.sample_files import picture

pytestmark = pytest.mark.e2e


class Pair:
    """Two servers with one database and one storage, and somebody who is signed in at the first."""

    def __init__(self, first: LiveServer, second: LiveServer, stack: ExitStack) -> None:
        token = first.sign_in(first.sign_up())["access_token"]
        self.owner = stack.enter_context(first.client(headers={"Authorization": f"Bearer {token}"}))
        self.visitors = [stack.enter_context(httpx.Client(base_url=server.url)) for server in (first, second)]

    def wear(self) -> str:
        """Returns the path of the picture."""
        answer = self.owner.put("/users/me/avatar", files={"file": ("me.png", picture())}).raise_for_status()
        url: str = answer.json()["avatar_url"]
        return urlsplit(url).path

    def seen(self, path: str) -> list[int]:
        return [visitor.get(path).status_code for visitor in self.visitors]

    def hits(self) -> list[int]:
        return [visitor.get("/health/cache").json()["hits"] for visitor in self.visitors]


@pytest.fixture(params=["memory", "redis"])
def pair(
    request: pytest.FixtureRequest, live_database: URL, start_server: Callable[..., LiveServer], tmp_path: object
) -> Iterator[Pair]:
    options: dict[str, object] = {"storage_url": f"file://{tmp_path}/files"}
    if request.param == "redis":
        redis: RedisServer = request.getfixturevalue("redis_server")
        options["redis_url"] = redis.url
    with ExitStack() as stack:
        yield Pair(start_server(live_database, **options), start_server(live_database, **options), stack)


def test_a_picture_is_kept_by_both_and_forgotten_by_both(pair: Pair) -> None:
    path = pair.wear()
    assert [pair.seen(path) for _ in range(3)] == [[200, 200]] * 3
    assert sum(pair.hits()) >= 4

    assert pair.owner.delete("/users/me/avatar").status_code == 204

    assert pair.visitors[0].get(path).status_code == 404
    wait_until(lambda: pair.seen(path) == [404, 404], seconds=3)
