import asyncio
import os
import stat
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from tempfile import SpooledTemporaryFile
from uuid import UUID, uuid4

import httpx
import pytest

from app.lib.errors import NotFoundError
from app.lib.storage import OWNER, S3_CHUNK, SHARDS, ForeignStorageError, Storage, StorageUnavailableError
from tests.live import free_port
from tests.s3_server import S3Server

pytestmark = pytest.mark.integration

LATER = datetime.now(UTC) + timedelta(hours=1)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "some where" / "files"


@pytest.fixture(params=["file", "s3"])
def storage(request: pytest.FixtureRequest, directory: Path) -> Storage:
    if request.param == "file":
        return Storage(directory.as_uri())
    server: S3Server = request.getfixturevalue("s3_server")
    return Storage(server.url)


def stored(storage: Storage, content: bytes = b"content") -> UUID:
    blob_id = uuid4()
    storage.put(blob_id, content, media_type="text/plain", disposition="attachment")
    return blob_id


def names(storage: Storage, *, before: datetime) -> set[UUID]:
    shards = [storage.stored_before(before, shard=shard) for shard in range(SHARDS)]
    return {blob_id for shard in shards for batch in shard for blob_id in batch}


async def joined(storage: Storage, blob_id: UUID, *, start: int, stop: int) -> bytes:
    return b"".join([piece async for piece in storage.stream(blob_id, start=start, stop=stop)])


@pytest.mark.parametrize("size", [1, S3_CHUNK, 2 * S3_CHUNK + 1])
def test_what_is_put_is_read_and_streamed_in_any_part(size: int, storage: Storage) -> None:
    content = os.urandom(size)
    with SpooledTemporaryFile(max_size=1024) as file:
        file.write(content)
        storage.put(blob_id := uuid4(), file, media_type="text/plain", disposition="attachment")

    assert storage.read(blob_id) == content
    assert asyncio.run(joined(storage, blob_id, start=0, stop=size)) == content
    assert asyncio.run(joined(storage, blob_id, start=size // 2, stop=size)) == content[size // 2 :]


def test_a_deleted_blob_is_gone_and_may_be_deleted_again(storage: Storage) -> None:
    blob_id = stored(storage)

    storage.delete(blob_id)
    storage.delete(blob_id)

    with pytest.raises(NotFoundError):
        storage.read(blob_id)
    with pytest.raises(NotFoundError):
        storage.stream(blob_id, start=0, stop=1)


def test_many_are_deleted_at_once_though_some_are_gone(storage: Storage) -> None:
    blob_ids = [stored(storage), uuid4(), stored(storage)]
    kept = stored(storage)

    storage.delete_all(blob_ids)
    storage.delete_all([])

    assert names(storage, before=LATER) == {kept}


def test_a_storage_is_that_of_the_first_database_that_claims_it(
    storage: Storage, caplog: pytest.LogCaptureFixture
) -> None:
    first, other = uuid4(), uuid4()
    assert not storage.belongs_to(first)
    storage.claim(first)

    storage.claim(first)

    assert storage.belongs_to(first)
    with pytest.raises(ForeignStorageError):
        storage.claim(other)
    assert OWNER in caplog.text
    assert names(storage, before=LATER) == set()


def test_older_blobs_are_named_shard_by_shard(storage: Storage) -> None:
    there = {stored(storage) for _ in range(40)}

    assert names(storage, before=LATER) == there
    assert names(storage, before=LATER - timedelta(hours=2)) == set()


def test_what_somebody_else_has_put_into_the_directory_has_no_name(directory: Path) -> None:
    storage = Storage(directory.as_uri())
    [path] = directory.rglob(str(stored(storage)))
    path.rename(path.with_name("notes.txt"))

    assert names(storage, before=LATER) == set()


def test_names_in_an_empty_storage_are_none(storage: Storage) -> None:
    assert names(storage, before=LATER) == set()


def test_only_the_owner_of_the_process_can_read_the_directory(directory: Path) -> None:
    blob_id = stored(Storage(directory.as_uri()))

    [path] = directory.rglob(str(blob_id))

    assert [stat.S_IMODE(each.stat().st_mode) for each in (path, path.parent, directory)] == [0o600, 0o700, 0o700]


def test_a_source_that_fails_leaves_nothing(directory: Path) -> None:
    class Breaking(BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if self.tell() > S3_CHUNK:
                raise OSError("the client has left")
            return super().read(size)

    with pytest.raises(StorageUnavailableError):
        Storage(directory.as_uri()).put(uuid4(), Breaking(bytes(3 * S3_CHUNK)), media_type="", disposition="")

    assert not [path for path in directory.rglob("*") if path.is_file()]


def test_halves_of_killed_processes_are_removed_when_they_are_old(directory: Path) -> None:
    storage = Storage(directory.as_uri())
    blob_id = stored(storage)
    [path] = directory.rglob(str(blob_id))
    half = path.with_name(f"{uuid4()}#1")
    half.touch()

    storage.remove_unfinished(LATER - timedelta(hours=2), shard=int(path.parent.name, 16))
    assert half.exists()
    storage.remove_unfinished(LATER, shard=int(path.parent.name, 16))

    assert [each.name for each in path.parent.iterdir()] == [str(blob_id)]


def test_a_signed_url_sends_the_headers_that_were_put_and_a_directory_has_none(
    s3_server: S3Server, directory: Path
) -> None:
    storage = Storage(s3_server.url)
    storage.put(blob_id := uuid4(), b"content", media_type="text/csv", disposition="attachment; filename*=UTF-8''a")

    url = storage.signed_url(blob_id)

    assert url
    assert "X-Amz-Expires=60&" in url
    answer = httpx.get(url)
    assert answer.content == b"content"
    assert answer.headers["content-type"] == "text/csv"
    assert answer.headers["content-disposition"] == "attachment; filename*=UTF-8''a"
    assert Storage(directory.as_uri()).signed_url(blob_id) is None


def test_a_bucket_keeps_everything_below_its_prefix(s3_server: S3Server) -> None:
    blob_id = stored(Storage(s3_server.url))

    assert s3_server.keys() == [f"keel/files/{blob_id.hex[-1]}/{blob_id}"]


def test_a_service_that_does_not_answer_is_unavailable(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    storage = Storage(s3_server.url)

    for call in (
        lambda: stored(storage),
        lambda: storage.read(uuid4()),
        lambda: storage.stream(uuid4(), start=0, stop=1),
        lambda: storage.delete(uuid4()),
        lambda: storage.delete_all([uuid4()]),
        lambda: storage.claim(uuid4()),
        lambda: names(storage, before=LATER),
    ):
        with pytest.raises(StorageUnavailableError):
            call()


def test_a_bucket_that_does_not_exist_is_unavailable_to_uploads(s3_server: S3Server) -> None:
    with pytest.raises(StorageUnavailableError):
        stored(Storage("s3://nobody-has-made-this"))


def test_a_directory_that_cannot_be_made_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(StorageUnavailableError):
        stored(Storage((tmp_path / "file").as_uri()))
