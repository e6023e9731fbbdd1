"""Uploads and downloads on a real server: memory, slow and vanishing clients, a killed process, a real S3 service."""

import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from datetime import timedelta
from pathlib import Path
from select import select as select_readable

import httpx
import psutil
import pytest
from sqlalchemy import URL, NullPool, create_engine, select, text

from app.domain.files.jobs import KEEP_ORPHANS, delete_blob, remove_orphans_of
from app.lib.db.database import Database
from app.lib.jobs.broker import decode, saq_jobs
from app.lib.storage import OWNER, SHARDS, Storage
from app.server.request import RECEPTIONS_OF_ONE
from tests.live import LiveServer, temporary_files_of, wait_until
from tests.s3_server import S3Server
from tests.sample_files import picture

pytestmark = pytest.mark.e2e
Start = Callable[..., LiveServer]
logger = logging.getLogger(__name__)

MEGABYTE = 1024 * 1024
TEXT = b"ten bytes\n" * MEGABYTE
HEAD = "{} /api/v1{} HTTP/1.1\r\nHost: keel.test\r\nAuthorization: {}\r\n"
TYPE = "multipart/form-data; boundary=limit"
FORM = f"Content-Type: {TYPE}\r\nContent-Length: {{}}\r\n\r\n"
PART = b'--limit\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\n'
SMALL_BODY = PART + b"hello\r\n--limit--"
SMALL_FORM = FORM.format(len(SMALL_BODY)).encode() + SMALL_BODY
HALF_A_FORM = FORM.format(len(TEXT)).encode() + PART + TEXT[: 3 * MEGABYTE]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "files"


def bearer(server: LiveServer) -> dict[str, str]:
    return {"Authorization": f"Bearer {server.sign_in(server.sign_up())['access_token']}"}


def worker_of(server: LiveServer) -> psutil.Process:
    [worker] = psutil.Process(server.process_id).children()
    return worker


def connect(server: LiveServer, method: str, path: str, headers: dict[str, str], rest: bytes) -> socket.socket:
    """A client that has sent this and does nothing more."""
    client = socket.create_connection(("127.0.0.1", server.port))
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.sendall(HEAD.format(method, path, headers["Authorization"]).encode() + rest)
    return client


@contextmanager
def peak_of(process: psutil.Process) -> Iterator[list[int]]:
    """Fills with the growth of its memory, in bytes, sampled every 2 ms."""
    before, grown, is_over = process.memory_info().rss, [0], threading.Event()

    def watch() -> None:
        while not is_over.wait(0.002):
            grown.append(process.memory_info().rss - before)

    watching = threading.Thread(target=watch)
    watching.start()
    yield grown
    is_over.set()
    watching.join()


@pytest.mark.parametrize("place", ["directory", "bucket"])
def test_an_upload_of_10_mb_takes_less_than_30_mb_of_memory(
    place: str, start_server: Start, live_database: URL, directory: Path, s3_server: S3Server
) -> None:
    url = directory.as_uri() if place == "directory" else s3_server.url
    server = start_server(live_database, storage_url=url)
    with server.client(headers=bearer(server)) as client:
        client.post("/files", files={"file": ("a.txt", b"the first")}).raise_for_status()

        with peak_of(worker_of(server)) as grown:
            file = client.post("/files", files={"file": ("a.txt", TEXT)}).raise_for_status().json()
            content = client.get(f"/files/{file['id']}/content", follow_redirects=True).content

    assert content == TEXT
    assert max(grown) < 30 * MEGABYTE
    logger.info("%s: %.1f MB", place, max(grown) / MEGABYTE)


def test_clients_that_stand_still_hold_no_thread_no_connection_and_no_blob(
    start_server: Start, live_database: URL, directory: Path
) -> None:
    server = start_server(live_database, storage_url=directory.as_uri(), db_pool_size=2)
    headers = bearer(server)
    with server.client(headers=headers) as client, ExitStack() as stack:
        file = client.post("/files", files={"file": ("a.txt", TEXT)}).raise_for_status().json()
        for _ in range(10):
            uploading = connect(server, "POST", "/files", headers, HALF_A_FORM)
            reading = connect(server, "GET", f"/files/{file['id']}/content", headers, b"\r\n")
            stack.enter_context(closing(uploading))
            stack.enter_context(closing(reading))
            assert reading.recv(12) == b"HTTP/1.1 200"

        wait_until(lambda: not any(str(directory) in file.path for file in worker_of(server).open_files()), seconds=5)
        began = time.monotonic()
        assert [client.get("/files").status_code for _ in range(10)] == [200] * 10
        assert time.monotonic() - began < 2


def test_of_uploads_that_come_at_once_few_are_received_and_none_stays_in_memory(
    start_server: Start, live_database: URL, directory: Path
) -> None:
    server = start_server(live_database, storage_url=directory.as_uri())
    greedy, other = bearer(server), bearer(server)
    worker = worker_of(server)
    before = temporary_files_of(worker.pid)
    with server.client(headers=other) as client, ExitStack() as stack, peak_of(worker) as grown:
        began = FORM.format(len(TEXT)).encode() + PART + TEXT[:MEGABYTE]
        with ThreadPoolExecutor(60) as threads:
            sockets = list(threads.map(lambda _: connect(server, "POST", "/files", greedy, began), range(60)))
        for each in sockets:
            stack.enter_context(closing(each))
        wait_until(lambda: len(temporary_files_of(worker.pid) - before) == RECEPTIONS_OF_ONE, seconds=5)

        answer = client.post("/files", files={"file": ("a.txt", TEXT)})
        wait_until(lambda: refused(sockets) == 60 - RECEPTIONS_OF_ONE, seconds=15)

        assert answer.status_code == 201
        assert len(temporary_files_of(worker.pid) - before) == RECEPTIONS_OF_ONE
    assert max(grown) < 60 * MEGABYTE
    logger.info("60 at once: %.1f MB", max(grown) / MEGABYTE)


def refused(sockets: list[socket.socket]) -> int:
    readable, _, _ = select_readable(sockets, [], [], 0)
    return sum(each.recv(12, socket.MSG_PEEK) == b"HTTP/1.1 503" for each in readable)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells of files without a name")
def test_a_client_that_vanishes_leaves_nothing(start_server: Start, live_database: URL, directory: Path) -> None:
    server = start_server(live_database, storage_url=directory.as_uri())
    headers = bearer(server)
    worker = worker_of(server).pid
    before = temporary_files_of(worker)
    uploading = connect(server, "POST", "/files", headers, HALF_A_FORM)
    wait_until(lambda: temporary_files_of(worker) > before, seconds=5)
    uploading.close()

    wait_until(lambda: temporary_files_of(worker) == before, seconds=5)
    assert not directory.exists()
    assert httpx.get(f"{server.api}/files", headers=headers).json()["total"] == 0


def test_a_server_killed_between_blob_and_row_leaves_what_the_clean_up_removes(
    start_server: Start, live_database: URL, directory: Path
) -> None:
    server = start_server(live_database, storage_url=directory.as_uri())
    headers, engine = bearer(server), create_engine(live_database, poolclass=NullPool)
    with engine.begin() as lock:
        lock.execute(text("LOCK TABLE files IN ACCESS EXCLUSIVE MODE"))  # the INSERT will wait for it
        with closing(connect(server, "POST", "/files", headers, SMALL_FORM)):
            wait_until(lambda: bool(blobs(directory)), seconds=5)
            os.killpg(server.process_id, signal.SIGKILL)
    [orphan] = blobs(directory)

    with engine.connect() as fresh:
        assert fresh.scalar(text("SELECT count(*) FROM files")) == 0
    clean_up(live_database, directory)
    assert blobs(directory) == [orphan]
    long_ago = time.time() - (KEEP_ORPHANS + timedelta(minutes=1)).total_seconds()
    os.utime(orphan, (long_ago, long_ago))
    clean_up(live_database, directory)
    assert blobs(directory) == []


def test_of_pictures_that_come_at_once_one_remains(start_server: Start, live_database: URL, directory: Path) -> None:
    server = start_server(live_database, storage_url=directory.as_uri())
    with server.client(headers=bearer(server)) as client, ThreadPoolExecutor(8) as threads:
        form = {"file": ("me.png", picture(), "image/png")}
        answers = list(threads.map(lambda _: client.put("/users/me/avatar", files=form), range(16)))

    assert {answer.status_code for answer in answers} == {200}
    with create_engine(live_database, poolclass=NullPool).connect() as fresh:
        [row] = fresh.execute(text("SELECT avatars.id, avatar_url FROM avatars JOIN users ON user_id = users.id"))
        jobs = [decode(row).function for row in fresh.scalars(select(saq_jobs.c.job))]
    assert row.avatar_url.endswith(f"/avatars/{row.id}")
    assert jobs.count(delete_blob.name) == 15


def test_a_file_that_is_too_large_is_refused_while_it_is_sent(
    start_server: Start, live_database: URL, directory: Path
) -> None:
    server = start_server(live_database, storage_url=directory.as_uri())
    with server.client(headers=bearer(server)) as client:
        announced = client.post("/files", files={"file": ("a.txt", TEXT * 2)})
        chunked = client.post("/files", content=iter([PART, TEXT, b"x"]), headers={"Content-Type": TYPE})

    assert [announced.status_code, chunked.status_code] == [413, 413]
    assert not directory.exists()


def blobs(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file() and "#" not in path.name and path.name != OWNER]


def clean_up(url: URL, directory: Path) -> None:
    storage = Storage(directory.as_uri())
    database = Database(url, pool_size=1)
    for shard in range(SHARDS):
        database.write_once(lambda session: remove_orphans_of(session, storage, shard=shard))  # noqa: B023  (run at once)
    database.dispose()


def test_files_in_a_bucket_are_fetched_from_there_and_pictures_from_us(
    start_server: Start, live_database: URL, s3_server: S3Server
) -> None:
    server = start_server(live_database, storage_url=s3_server.url)
    with server.client(headers=bearer(server)) as client:
        file = client.post("/files", files={"file": ("Grüße.txt", b"hello")}).raise_for_status().json()
        redirection = client.get(f"/files/{file['id']}/content")
        avatar = client.put("/users/me/avatar", files={"file": ("me.png", picture())}).raise_for_status().json()
        path = avatar["avatar_url"].removeprefix("http://keel.test")

        fetched = httpx.get(redirection.headers["location"])
        shown = httpx.get(f"{server.url}{path}")

    assert (redirection.status_code, redirection.headers["cache-control"]) == (307, "no-store")
    assert fetched.content == b"hello"
    assert fetched.headers["content-disposition"] == "attachment; filename*=UTF-8''Gr%C3%BC%C3%9Fe.txt"
    assert (shown.status_code, shown.headers["content-type"]) == (200, "image/webp")
    assert len(s3_server.keys()) == 3  # and OWNER


def test_while_the_bucket_is_gone_uploads_are_503_and_leave_no_row(
    start_server: Start, live_database: URL, s3_server: S3Server
) -> None:
    server = start_server(live_database, storage_url=s3_server.url)
    with server.client(headers=bearer(server)) as client:
        s3_server.stop()

        answer = client.post("/files", files={"file": ("a.txt", b"hello")})

        assert (answer.status_code, answer.json()["code"]) == (503, "storage_unavailable")
        assert answer.headers["retry-after"]
        assert client.get("/files").json()["total"] == 0
