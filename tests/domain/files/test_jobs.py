import os
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from io import BytesIO
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from litestar import Litestar
from litestar.testing import TestClient
from sqlalchemy import URL, Connection, Engine, NullPool, create_engine, delete, select, text, update
from sqlalchemy.orm import Session

from app.domain.files.jobs import KEEP_ORPHANS, delete_blob, remove_orphans, remove_orphans_of, stored_tables
from app.domain.files.models import Avatar, DatabaseIdentity, File
from app.domain.files.services import FileService
from app.domain.users.models import User
from app.lib.errors import NotFoundError
from app.lib.jobs.broker import decode, enqueue, saq_jobs
from app.lib.settings import Settings
from app.lib.storage import OWNER, SHARDS, ForeignStorageError, Storage
from app.server.asgi import build_app
from tests.conftest import API, SignedIn
from tests.inline_jobs import InlineJobs
from tests.live import PASSWORD
from tests.sample_files import picture

pytestmark = pytest.mark.integration
AsUser = Callable[..., SignedIn]

FORM = {"file": ("a.png", picture(), "image/png")}
FAIL_AT_COMMIT = """
    CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE unique_violation; END $$;
    CREATE CONSTRAINT TRIGGER late AFTER INSERT ON files DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION fail();
"""


@pytest.fixture
def storage(settings: Settings) -> Storage:
    return Storage.of(settings)


def is_stored(storage: Storage, blob_id: UUID) -> bool:
    try:
        return bool(storage.read(blob_id))
    except NotFoundError:
        return False


def stored_long_ago(storage: Storage, settings: Settings, blob_id: UUID) -> UUID:
    """Make it so old that the clean-up looks at it."""
    if not is_stored(storage, blob_id):
        storage.put(blob_id, b"content", media_type="text/plain", disposition="attachment")
    long_ago = time.time() - (KEEP_ORPHANS + timedelta(minutes=1)).total_seconds()
    [path] = (settings.local_dir / "files").rglob(str(blob_id))
    os.utime(path, (long_ago, long_ago))
    return blob_id


def test_a_blob_that_a_row_names_is_not_deleted(
    as_user: AsUser, session: Session, jobs: InlineJobs, storage: Storage
) -> None:
    file_id = UUID(as_user().post("/files", files=FORM).json()["id"])
    enqueue(session, delete_blob, blob_id=file_id)
    session.commit()

    jobs.run()

    assert is_stored(storage, file_id)


def test_the_clean_up_removes_old_blobs_without_a_row_and_no_others(
    as_user: AsUser, session: Session, jobs: InlineJobs, storage: Storage, settings: Settings
) -> None:
    ada, leaving = as_user(), as_user()
    file_id = UUID(ada.post("/files", files=FORM).json()["id"])
    avatar_id = UUID(ada.put("/users/me/avatar", files=FORM).json()["avatar_url"].rpartition("/")[2])
    left_id = UUID(leaving.post("/files", files=FORM).json()["id"])
    kept = [stored_long_ago(storage, settings, blob_id) for blob_id in (file_id, avatar_id)]
    gone = [stored_long_ago(storage, settings, blob_id) for blob_id in (left_id, uuid4(), uuid4())]
    storage.put(young := uuid4(), b"content", media_type="text/plain", disposition="attachment")
    session.execute(delete(User).where(User.id == leaving.user.id))
    enqueue(session, remove_orphans)
    session.commit()

    jobs.run()
    jobs.run()

    assert [is_stored(storage, blob_id) for blob_id in [*kept, young]] == [True] * 3
    assert [is_stored(storage, blob_id) for blob_id in gone] == [False] * 3


def test_a_worker_with_the_wrong_database_deletes_nothing(
    as_user: AsUser, session: Session, storage: Storage, settings: Settings
) -> None:
    file_id = UUID(as_user().post("/files", files=FORM).json()["id"])
    stored_long_ago(storage, settings, file_id)
    session.execute(delete(File))
    session.execute(update(DatabaseIdentity).values(id=uuid4()))

    with pytest.raises(ForeignStorageError):
        remove_orphans_of(session, storage, shard=int(file_id.hex[-1], 16))

    assert is_stored(storage, file_id)


def test_in_a_storage_that_nobody_has_claimed_nothing_is_deleted(session: Session, tmp_path: Path) -> None:
    storage = Storage(tmp_path.as_uri())
    storage.put(blob_id := UUID(int=0), b"content", media_type="text/plain", disposition="attachment")
    os.utime(tmp_path / "0" / str(blob_id), (0, 0))

    remove_orphans_of(session, storage, shard=0)

    assert is_stored(storage, blob_id)


def test_an_upload_into_the_storage_of_another_database_is_refused(
    as_user: AsUser, session: Session, tmp_path: Path
) -> None:
    storage = Storage(tmp_path.as_uri())
    storage.claim(uuid4())
    ada = as_user().user.id

    with pytest.raises(ForeignStorageError):
        FileService(session).upload(
            BytesIO(b"hello"), name="a.txt", owner_id=ada, allowed=["txt"], storage=Storage(tmp_path.as_uri())
        )

    assert [path.name for path in tmp_path.iterdir()] == [OWNER]


def test_every_table_that_is_stored_keeps_its_blobs() -> None:
    assert {File, Avatar} <= set(stored_tables())


def test_the_clean_up_is_a_job_for_each_shard_however_often_it_is_asked_for(session: Session, jobs: InlineJobs) -> None:
    for _ in range(2):
        remove_orphans(session)
    session.commit()

    shards = [arguments["shard"] for name, arguments in jobs.queued if name == remove_orphans_of.name]
    assert shards == list(range(SHARDS))


@pytest.fixture
def failing(live_database: URL) -> Iterator[Engine]:
    """A database in which files cannot be committed."""
    engine = create_engine(live_database, poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(text(FAIL_AT_COMMIT))
    yield engine
    engine.dispose()


def test_when_the_commit_fails_there_is_no_row_and_a_job_that_deletes_the_blob(
    failing: Engine, live_database: URL, settings: Settings, tmp_path: Path
) -> None:
    settings = settings.model_copy(update={"storage_url": tmp_path.as_uri()})
    storage = Storage.of(settings)
    with TestClient(build_app(settings, live_database), raise_server_exceptions=False) as client:
        answer = client.post(f"{API}/files", files=FORM, headers=bearer(client))

    assert answer.status_code == 409
    with failing.connect() as fresh:
        assert fresh.scalars(select(File.id)).all() == []
        queued = [decode(row) for row in fresh.scalars(select(saq_jobs.c.job))]
    [job] = [each for each in queued if each.function == delete_blob.name]
    blob_id = UUID((job.kwargs or {})["blob_id"])
    assert job.scheduled > time.time() + 50
    assert is_stored(storage, blob_id)
    with Session(failing) as session:
        delete_blob.run(session, {Storage: storage}, job.kwargs or {})
    assert not is_stored(storage, blob_id)


def bearer(client: TestClient[Litestar]) -> dict[str, str]:
    account = {"email": "ada@example.com", "password": PASSWORD, "first_name": "Ada", "last_name": "Lovelace"}
    client.post(f"{API}/auth/register", json=account)
    tokens = client.post(f"{API}/auth/login", json={"email": account["email"], "password": PASSWORD}).json()
    return {"Authorization": f"Bearer {tokens['access_token']}"}


def test_the_row_and_the_job_of_a_deletion_commit_together(
    as_user: AsUser, jobs: InlineJobs, storage: Storage, connection: Connection
) -> None:
    ada = as_user()
    file_id = UUID(ada.post("/files", files=FORM).json()["id"])

    ada.delete(f"/files/{file_id}")

    assert connection.scalar(select(File.id).where(File.id == file_id)) is None
    assert jobs.queued == [("files.delete_blob", {"blob_id": str(file_id)})]
    assert is_stored(storage, file_id)
    jobs.run()
    assert not is_stored(storage, file_id)
