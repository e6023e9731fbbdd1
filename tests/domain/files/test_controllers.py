from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import pytest
from litestar import Litestar
from litestar.testing import TestClient
from sqlalchemy import Connection, select
from sqlalchemy.orm import Session

from app.domain.files.models import Avatar, File
from app.lib.settings import Settings
from app.lib.storage import Storage
from tests.conftest import SignedIn
from tests.factories.files import FileFactory
from tests.sample_files import picture

pytestmark = pytest.mark.integration
AsUser = Callable[..., SignedIn]
PNG = picture()


def own(session: Session, who: SignedIn, **fields: Any) -> File:
    """A row without its blob."""
    file = FileFactory.build(owner_id=who.user.id, **fields)
    session.add(file)
    session.commit()
    return file


def upload(who: SignedIn, name: str = "a.png", content: bytes = PNG) -> Any:
    answer = who.post("/files", files={"file": (name, content, "text/html")})
    assert answer.status_code == 201
    return answer.json()


@pytest.fixture
def storage(settings: Settings) -> Storage:
    return Storage.of(settings)


def test_an_upload_is_stored_under_its_id_and_belongs_to_its_creator(
    as_user: AsUser, connection: Connection, storage: Storage
) -> None:
    ada = as_user()

    file = upload(ada, "Grüße.png")

    stored = connection.execute(select(File.name, File.owner_id, File.size, File.media_type)).one()
    assert stored == ("Grüße.png", ada.user.id, len(PNG), "image/png")
    assert storage.read(UUID(file["id"])) == PNG
    assert ada.get(f"/files/{file['id']}").json() == file


def test_a_download_is_saved_and_never_shown(as_user: AsUser) -> None:
    ada = as_user()
    file = upload(ada, "a\"b'; filename=x.html;%0d 東.png")

    answer = ada.get(f"/files/{file['id']}/content")

    assert (answer.status_code, answer.content) == (200, PNG)
    assert {name: answer.headers[name] for name in ("content-type", "content-length", "etag", "cache-control")} == {
        "content-type": "image/png",
        "content-length": str(len(PNG)),
        "etag": f'"{file["sha256"]}"',
        "cache-control": "private, no-cache",
    }
    assert answer.headers["content-disposition"] == (
        "attachment; filename*=UTF-8''a%22b%27%3B%20filename%3Dx.html%3B%250d%20%E6%9D%B1.png"
    )
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-security-policy"].endswith("sandbox")
    assert "content-encoding" not in answer.headers


@pytest.mark.parametrize(
    ("headers", "status", "content", "content_range"),
    [
        ({}, 200, b"0123456789", None),
        ({"Range": "bytes=0-3"}, 206, b"0123", "bytes 0-3/10"),
        ({"Range": "bytes=4-"}, 206, b"456789", "bytes 4-9/10"),
        ({"Range": "bytes=-2"}, 206, b"89", "bytes 8-9/10"),
        ({"Range": "bytes=-20"}, 206, b"0123456789", "bytes 0-9/10"),
        ({"Range": "bytes=8-99"}, 206, b"89", "bytes 8-9/10"),
        ({"Range": "bytes=9-9", "If-Range": "TAG"}, 206, b"9", "bytes 9-9/10"),
        ({"Range": "bytes=9-9", "If-Range": '"other"'}, 200, b"0123456789", None),
        ({"Range": "bytes=9-9", "If-Range": "Wed, 25 Nov 2026 00:00:00 GMT"}, 200, b"0123456789", None),
        ({"Range": "bytes=0-1,4-5"}, 200, b"0123456789", None),
        ({"Range": "bytes=5-4"}, 200, b"0123456789", None),
        ({"Range": "bytes=-"}, 200, b"0123456789", None),
        ({"Range": "lines=0-1"}, 200, b"0123456789", None),
        ({"Range": f"bytes=0-{'9' * 5000}"}, 200, b"0123456789", None),
        ({"Range": "bytes=10-"}, 416, None, "bytes */10"),
        ({"Range": "bytes=-0"}, 416, None, "bytes */10"),
        ({"If-None-Match": "TAG"}, 304, b"", None),
        ({"If-None-Match": 'W/"other", W/TAG'}, 304, b"", None),
        ({"If-None-Match": "*"}, 304, b"", None),
        ({"If-None-Match": '"other"'}, 200, b"0123456789", None),
    ],
)
def test_a_download_may_be_of_a_part_or_be_known_already(
    headers: dict[str, str], status: int, content: bytes | None, content_range: str | None, as_user: AsUser
) -> None:
    ada = as_user()
    file = upload(ada, "digits.txt", b"0123456789")
    tag = f'"{file["sha256"]}"'

    answer = ada.get(
        f"/files/{file['id']}/content", headers={name: value.replace("TAG", tag) for name, value in headers.items()}
    )

    assert answer.status_code == status
    assert answer.headers.get("content-range") == content_range
    assert content in {None, answer.content}
    assert status == 416 or answer.headers["etag"] == tag


def test_a_deleted_file_is_gone(as_user: AsUser) -> None:
    ada = as_user()
    file = upload(ada)

    assert ada.delete(f"/files/{file['id']}").status_code == 204

    assert ada.get(f"/files/{file['id']}").status_code == 404
    assert ada.get(f"/files/{file['id']}/content").status_code == 404
    assert ada.delete(f"/files/{file['id']}").status_code == 404


@pytest.mark.parametrize(("method", "path"), [("GET", ""), ("GET", "/content"), ("DELETE", "")])
def test_somebody_elses_file_looks_like_one_that_does_not_exist(
    method: str, path: str, as_user: AsUser, storage: Storage
) -> None:
    file, eve = upload(as_user()), as_user()

    theirs = eve.request(method, f"/files/{file['id']}{path}")
    missing = eve.request(method, f"/files/{uuid4()}{path}")

    assert theirs.status_code == missing.status_code == 404
    assert theirs.json()["detail"] == missing.json()["detail"]
    assert storage.read(UUID(file["id"])) == PNG


def test_an_administrator_sees_everybodys(as_user: AsUser) -> None:
    ada, grace, admin = as_user(), as_user(), as_user(is_superuser=True)
    hers, his = upload(ada), upload(grace)

    assert [file["id"] for file in ada.get("/files").json()["items"]] == [hers["id"]]
    assert {file["id"] for file in admin.get("/files").json()["items"]} >= {hers["id"], his["id"]}
    assert admin.get(f"/files/{hers['id']}/content").content == PNG


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("sort=name", ["a.pdf", "b 100%.png", "c.txt"]),
        ("sort=-size", ["b 100%.png", "c.txt", "a.pdf"]),
        ("sort=created_at&limit=1&offset=1", ["b 100%.png"]),
        ("q=PNG", ["b 100%.png"]),
        ("q=%25", ["b 100%.png"]),
        ("cursor=&limit=2&sort=name", ["a.pdf", "b 100%.png"]),
    ],
)
def test_a_list_is_sorted_searched_and_cut(query: str, names: list[str], as_user: AsUser, session: Session) -> None:
    ada = as_user()
    for name, size in (("c.txt", 2), ("b 100%.png", 3), ("a.pdf", 1)):
        own(session, ada, name=name, size=size)

    assert [file["name"] for file in ada.get(f"/files?{query}").json()["items"]] == names


@pytest.mark.parametrize("query", ["sort=sha256", "sort=media_type", "limit=101", "cursor=abc"])
def test_a_bad_query_is_400(query: str, as_user: AsUser) -> None:
    assert as_user().get(f"/files?{query}").status_code == 400


def test_head_of_a_download_reads_nothing(as_user: AsUser, session: Session) -> None:
    ada = as_user()
    file = own(session, ada)  # it has no blob

    head = ada.request("HEAD", f"/files/{file.id}/content")

    assert (head.status_code, head.content) == (200, b"")
    assert (head.headers["content-length"], head.headers["etag"]) == (str(file.size), f'"{file.sha256}"')


def test_my_picture_is_not_read_again_when_i_have_it(as_user: AsUser, session: Session) -> None:
    ada = as_user()
    avatar = Avatar(id=uuid4(), user_id=ada.user.id)  # it has no blob
    session.add(avatar)
    session.commit()

    known = ada.get("/users/me/avatar", headers={"If-None-Match": f'"{avatar.id}"'})

    assert (known.status_code, known.headers["etag"]) == (304, f'"{avatar.id}"')
    assert ada.get("/users/me/avatar", headers={"If-None-Match": '"other"'}).status_code == 404


def test_a_row_whose_blob_is_missing_is_404(as_user: AsUser, session: Session) -> None:
    ada = as_user()
    file = own(session, ada)

    assert ada.get(f"/files/{file.id}/content").status_code == 404


@pytest.mark.parametrize(
    "path", ["/files", f"/files/{UUID(int=0)}", f"/files/{UUID(int=0)}/content", "/users/me/avatar"]
)
def test_nobody_sees_files_without_signing_in(path: str, client: TestClient[Litestar]) -> None:
    assert client.get(f"/api/v1{path}").status_code == 401
