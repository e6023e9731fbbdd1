"""Avatars. What is refused of them is in `tests/server/test_forms.py` and `tests/lib/test_images.py`."""

from collections.abc import Callable
from io import BytesIO
from typing import Any
from uuid import UUID

import pytest
from litestar import Litestar
from litestar.testing import TestClient
from PIL import Image
from sqlalchemy import Connection, select

from app.domain.files.models import Avatar
from app.domain.users.models import User
from app.lib.settings import Settings
from app.lib.storage import Storage
from tests.conftest import SignedIn
from tests.inline_jobs import InlineJobs
from tests.sample_files import picture

pytestmark = pytest.mark.integration
AsUser = Callable[..., SignedIn]


def wear(who: SignedIn, *, size: tuple[int, int] = (900, 700)) -> str:
    """Upload a picture. Returns its path below the host."""
    answer = who.put("/users/me/avatar", files={"file": ("<me>.png", picture(size=size), "image/png")})
    assert answer.status_code == 200
    url: str = answer.json()["avatar_url"]
    assert who.get("/users/me").json()["avatar_url"] == url
    return url.removeprefix("http://localhost:8000")


def test_a_picture_is_shown_to_anybody_who_knows_its_address(as_user: AsUser, client: TestClient[Litestar]) -> None:
    answer = client.get(wear(as_user()))

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "image/webp"
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-security-policy"].endswith("sandbox")
    assert "content-disposition" not in answer.headers
    assert Image.open(BytesIO(answer.content)).size == (512, 512)


def test_its_owner_sees_the_same_and_asks_again_each_time(as_user: AsUser, client: TestClient[Litestar]) -> None:
    ada = as_user()
    path = wear(ada)

    mine = ada.get("/users/me/avatar")

    assert mine.content == client.get(path).content
    assert mine.headers["cache-control"] == "private, no-cache"


def test_a_new_picture_has_a_new_address_and_the_old_one_dies(
    as_user: AsUser, client: TestClient[Litestar], jobs: InlineJobs, settings: Settings, connection: Connection
) -> None:
    ada = as_user()
    first, second = wear(ada), wear(ada)

    assert client.get(first).status_code == 404
    assert client.get(second).status_code == 200
    jobs.run()
    assert not blob_of(settings, first)
    assert blob_of(settings, second)
    assert [str(each) for each in connection.scalars(select(Avatar.id))] == [second.rpartition("/")[2]]


def blob_of(settings: Settings, path: str) -> list[Any]:
    return list((settings.local_dir / "files").rglob(path.rpartition("/")[2]))


def test_a_removed_picture_is_gone_everywhere(
    as_user: AsUser, client: TestClient[Litestar], jobs: InlineJobs, settings: Settings
) -> None:
    ada = as_user()
    path = wear(ada)

    assert ada.delete("/users/me/avatar").status_code == 204

    assert ada.get("/users/me").json()["avatar_url"] is None
    assert ada.get("/users/me/avatar").status_code == client.get(path).status_code == 404
    assert ada.delete("/users/me/avatar").status_code == 204
    jobs.run()
    assert not blob_of(settings, path)


def test_a_file_is_no_picture_that_anybody_may_see(as_user: AsUser, client: TestClient[Litestar]) -> None:
    file = as_user().post("/files", files={"file": ("a.png", picture())}).json()

    assert client.get(f"/api/v1/avatars/{file['id']}").status_code == 404


def test_my_picture_says_nothing_about_others(as_user: AsUser, connection: Connection) -> None:
    ada, grace = as_user(), as_user()
    path = wear(ada)

    assert grace.delete("/users/me/avatar").status_code == 204

    assert connection.scalar(select(Avatar.user_id)) == ada.user.id
    assert connection.scalar(select(User.avatar_url).where(User.id == ada.user.id)) == f"http://localhost:8000{path}"


def test_a_picture_is_kept_under_its_id_without_what_was_sent_with_it(as_user: AsUser, settings: Settings) -> None:
    path = wear(as_user(), size=(20, 10))

    content = Storage.of(settings).read(UUID(path.rpartition("/")[2]))

    assert Image.open(BytesIO(content)).size == (10, 10)
    assert b"<me>" not in content
