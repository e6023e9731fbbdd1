"""What is refused of an upload, as it arrives over HTTP: the right status, and nothing is left of it anywhere."""

import os
from collections.abc import Callable

import pytest
from sqlalchemy import Connection, func, select

from app.domain.files.models import Avatar, File
from app.lib.settings import Settings
from app.server.forms import MAX_PARTS, MAX_TEXT
from tests.conftest import SignedIn
from tests.inline_jobs import InlineJobs
from tests.live import temporary_files_of
from tests.sample_files import PDF, SCRIPT, archive, picture, png_bomb, png_with

pytestmark = pytest.mark.integration
AsUser = Callable[..., SignedIn]

TYPE = "multipart/form-data; boundary=limit"
END = b"--limit--\r\n"
PNG = picture()
LARGE = b"a line of text, again and again\n" * 70_000
"""More than is kept in memory."""
MAX_UPLOAD = 10 * 1024 * 1024


def part(content: bytes, *, name: bytes = b'name="file"; filename="a.png"', more: bytes = b"") -> bytes:
    return b"--limit\r\nContent-Disposition: form-data; " + name + b"\r\n" + more + b"\r\n" + content + b"\r\n"


def file(name: str, content: bytes = PNG) -> bytes:
    return part(content, name=b'name="file"; filename="' + name.encode() + b'"') + END


LARGE_PART = part(LARGE, name=b'name="file"; filename="a.txt"')
TEXT = b'name="file"'

REFUSED = {
    "a path": (400, file("../../../etc/passwd.png")),
    "an absolute path": (400, file("/etc/passwd.png")),
    "a path of Windows": (400, file("..\\a.png")),
    "NUL in the name": (400, file("a.png\0.html")),
    "a line break in the name": (400, file("a%0D%0AX: y.png")),
    "another direction in the name": (400, file("a\u202egnp.exe.png")),
    "a long name": (400, file(f"{'x' * 300}.png")),
    "html as png": (400, file("a.png", b"<html>" + SCRIPT)),
    "svg as png": (400, file("a.png", b"<svg xmlns='http://www.w3.org/2000/svg'/>")),
    "svg": (400, file("a.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>")),
    "html as text": (400, file("a.txt", b"<html>" + SCRIPT)),
    "GIF and script": (400, file("a.gif", picture("GIF", mode="P") + b"=1;alert(1)")),
    "PNG and HTML": (400, file("a.png", PNG + b"<html>" + SCRIPT)),
    "PNG around HTML": (400, file("a.png", png_with(SCRIPT))),
    "PDF and zip": (400, file("a.pdf", PDF + archive())),
    "JPEG and zip": (400, file("a.jpg", picture("JPEG") + archive())),
    "an unknown ending": (400, file("a.exe", b"MZ")),
    "two endings": (400, file("a.php.png")),
    "no ending": (400, file("a")),
    "an empty file": (400, file("a.txt", b"")),
    "no file chosen": (400, part(b"", name=b'name="file"; filename=""') + END),
    "a text instead": (400, part(b"hello", name=TEXT) + END),
    "a wrong field": (400, part(LARGE, name=b'name="other"; filename="a.txt"') + END),
    "one field too many": (400, LARGE_PART + part(b"x", name=b'name="owner_id"') + END),
    "two files": (400, LARGE_PART + LARGE_PART + END),
    "one byte too large": (413, file("a.txt", b"x" * (MAX_UPLOAD + 1))),
    "10 001 parts": (413, part(b"x") * 10_001 + END),
    "one part too many": (413, part(b"x", name=TEXT) * (MAX_PARTS + 1) + END),
    "many large parts": (413, LARGE_PART * MAX_PARTS + END),
    "much text": (413, LARGE_PART + part(b"x" * (MAX_TEXT + 1), name=b'name="note"') + END),
    "text that is not UTF-8": (400, LARGE_PART + part(b"\xff", name=b'name="note"') + END),
    "a huge header": (413, LARGE_PART + part(PNG, more=b"X-Long: " + b"x" * 10_000 + b"\r\n") + END),
    "many headers": (413, LARGE_PART + part(PNG, more=b"X-Many: x\r\n" * 10) + END),
    "a header that is not UTF-8": (400, LARGE_PART + part(PNG, name=b'name="file"; filename="\xff.png"') + END),
    "a header without a colon": (400, LARGE_PART + part(PNG, more=b"nonsense\r\n") + END),
    "a part that says another size": (400, LARGE_PART + part(PNG, more=b"Content-Length: 1\r\n") + END),
    "a part that is no field": (400, LARGE_PART + b"--limit\r\nContent-Disposition: attachment\r\n\r\nx\r\n" + END),
    "cut in the file": (400, LARGE_PART[:-1000]),
    "cut in a header": (400, LARGE_PART + b"--limit\r\nContent-Dis"),
    "cut before the end": (400, LARGE_PART),
    "nothing": (400, b""),
    "an empty form": (400, END),
    "no form at all": (400, b"hello"),
}


@pytest.fixture
def traces(connection: Connection, settings: Settings) -> Callable[[], tuple[object, ...]]:
    """Rows, blobs, and temporary files."""

    def look() -> tuple[object, ...]:
        rows = [connection.scalar(select(func.count()).select_from(table)) for table in (File, Avatar)]
        blobs = {path for path in (settings.local_dir / "files").rglob("*") if path.is_file()}
        return rows, blobs, temporary_files_of(os.getpid())

    return look


@pytest.mark.parametrize(("status", "body"), REFUSED.values(), ids=REFUSED)
def test_a_refused_upload_leaves_nothing(
    status: int, body: bytes, as_user: AsUser, traces: Callable[[], object], jobs: InlineJobs
) -> None:
    ada = as_user()
    before = traces()

    answer = ada.post("/files", content=body, headers={"Content-Type": TYPE})

    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert traces() == before
    assert jobs.queued == []


def test_two_files_are_one_too_many_in_plain_words(as_user: AsUser) -> None:
    answer = as_user().post("/files", files=[("file", ("a.txt", b"a")), ("file", ("b.txt", b"b"))])

    assert answer.json()["errors"] == [{"field": "file", "message": "Send one file only.", "source": "body"}]


@pytest.mark.parametrize(
    ("status", "content_type"),
    [
        (400, "multipart/form-data; boundary=other"),
        (400, "multipart/form-data"),
        (400, 'multipart/form-data; boundary=""'),
        (400, "multipart/form-data; boundary=é".encode().decode("latin-1")),
        (415, "application/json"),
        (415, "application/x-www-form-urlencoded"),
        (415, "multipart/mixed; boundary=limit"),
        (415, ""),
    ],
)
def test_a_body_of_another_type_leaves_nothing(
    status: int, content_type: str, as_user: AsUser, traces: Callable[[], object]
) -> None:
    ada = as_user()
    before = traces()

    answer = ada.post("/files", content=LARGE_PART + END, headers={"Content-Type": content_type.encode("latin-1")})

    assert answer.status_code == status
    assert traces() == before


@pytest.mark.parametrize(
    "content",
    [png_bomb(20_000, 20_000), png_bomb(65_000, 65_000), picture(size=(300, 300))[:150], b"<svg/>", PDF, b"", LARGE],
    ids=["a bomb", "a larger bomb", "cut", "svg", "pdf", "empty", "text"],
)
def test_a_refused_avatar_leaves_nothing(content: bytes, as_user: AsUser, traces: Callable[[], object]) -> None:
    ada = as_user()
    before = traces()

    answer = ada.put("/users/me/avatar", files={"file": ("a.png", content, "image/png")})

    assert answer.status_code == 400
    assert [error["field"] for error in answer.json()["errors"]] == ["file"]
    assert traces() == before


def test_a_file_of_exactly_the_largest_size_is_accepted(as_user: AsUser) -> None:
    body = file("a.txt", b"x" * MAX_UPLOAD)

    assert as_user().post("/files", content=body, headers={"Content-Type": TYPE}).status_code == 201


def test_an_accepted_upload_leaves_no_temporary_file(as_user: AsUser) -> None:
    before = temporary_files_of(os.getpid())

    answer = as_user().post("/files", content=LARGE_PART + END, headers={"Content-Type": TYPE})

    assert answer.status_code == 201
    assert temporary_files_of(os.getpid()) == before


def test_nobody_uploads_without_signing_in(as_user: AsUser, traces: Callable[[], object]) -> None:
    before = traces()

    answer = as_user().client.post("/api/v1/files", content=LARGE_PART + END, headers={"Content-Type": TYPE})

    assert answer.status_code == 401
    assert traces() == before


def test_other_bodies_keep_their_own_limit(as_user: AsUser) -> None:
    assert as_user().post("/items", json={"title": "x", "description": "x" * 2_000_000}).status_code == 413
