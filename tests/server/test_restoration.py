"""What can go wrong while a backup is restored: then everything is as it was, and one line says why."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import pytest
from advanced_alchemy.alembic.commands import AlembicCommands
from sqlalchemy import URL, text
from sqlalchemy.orm import Session

from app.domain.access.services import PolicyService
from app.domain.files.jobs import delete_blob
from app.domain.files.models import File
from app.lib.jobs.broker import enqueue
from app.lib.settings import Settings
from app.lib.storage import Storage
from app.server.backup_files import FOOTER, seal, unseal
from app.server.plugins import alchemy_config
from app.server.table_sums import TableSum
from tests.backup_runs import Operator, content, databases, fresh, quietly
from tests.factories.files import FileFactory
from tests.factories.users import UserFactory

pytestmark = pytest.mark.e2e
AGAIN = ("--clean", "--yes")


@pytest.fixture(scope="module")
def url(new_database: Callable[[], URL]) -> URL:
    """With somebody in it."""
    url = new_database()
    with fresh(url) as connection, Session(connection) as session:
        session.add(UserFactory.build(email="ada@example.com"))
        session.commit()
    return url


@pytest.fixture
def operator(url: URL, settings: Settings) -> Operator:
    return Operator(url, settings)


@pytest.fixture(scope="module")
def original(url: URL, settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    file = tmp_path_factory.mktemp("backups") / "backup"
    assert Operator(url, settings).back_up(file, "--no-verify").code == 0
    return file.read_bytes()


@pytest.fixture
def file(original: bytes, tmp_path: Path) -> Path:
    file = tmp_path / "backup"
    file.write_bytes(original)
    return file


@pytest.fixture
def unchanged(url: URL) -> Iterator[None]:
    before = content(url)
    yield
    assert content(url) == before


def sealed_with(file: Path, **changes: Any) -> Path:
    """The same archive with another manifest, whose checksums are right."""
    manifest = unseal(file, quietly)
    size = file.stat().st_size - FOOTER.size - len(msgspec.json.encode(manifest))
    file.write_bytes(file.read_bytes()[:size])
    seal(file, msgspec.structs.replace(manifest, **changes), quietly)
    return file


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda whole: whole[:999] + bytes([whole[999] ^ 1]) + whole[1000:], "is damaged: its checksum is wrong."),
        (lambda whole: whole[:-99] + bytes([whole[-99] ^ 1]) + whole[-98:], "is damaged: its checksum is wrong."),
        (lambda whole: whole[:-1], "is no backup of Keel, or its end is missing."),
        (lambda whole: whole[: len(whole) // 2], "is no backup of Keel, or its end is missing."),
        (lambda _: b"", "is no backup of Keel, or its end is missing."),
        (lambda _: b"KEELBKP1" * 9, "is damaged: its checksum is wrong."),
    ],
    ids=["a byte of the archive", "a byte of the manifest", "the last byte", "the second half", "empty", "only marks"],
)
def test_a_file_that_is_not_whole_is_refused(
    operator: Operator, file: Path, spoil: Callable[[bytes], bytes], said: str
) -> None:
    file.write_bytes(spoil(file.read_bytes()))

    ended = operator.restore(file, *AGAIN)

    assert ended.code == 1
    assert said in ended.said


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"revisions": ["9999"]}, "which this version of Keel does not know: restore it with Keel 0.1.0 or newer."),
        ({"server": 99}, "This backup is of PostgreSQL 99"),
        ({"client": 99}, "pg_restore is version 18, but version 99 is needed: install"),
        ({"db_schema": "other"}, "This backup is of the schema other"),
        ({"grantees": ["nobody_here"]}, "gives rights to nobody_here, and the server has no such role"),
        ({"sequences": {"saq_jobs_lock_key_seq": 10**6}}, "would give out again what it has given out before."),
        ({"tables": {"users": TableSum(2, "0")}}, "The restored rows are not those that were backed up, in "),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_cannot_be_or_has_become_something_else_is_refused(
    operator: Operator, file: Path, changes: dict[str, Any], said: str
) -> None:
    ended = operator.restore(sealed_with(file, **changes), *AGAIN)

    assert ended.code == 1
    assert said in ended.said


@pytest.mark.usefixtures("unchanged")
def test_nothing_is_replaced_unless_somebody_says_so(operator: Operator, file: Path) -> None:
    assert "has 27 tables and 1 accounts in it: say --clean to replace them." in operator.restore(file).said
    for answer in ("n\n", ""):
        assert "Not confirmed: say --yes. Nothing was changed." in operator.restore(file, "--clean", answer=answer).said
    assert "cannot be read: No such file or directory." in operator.restore(file.with_name("none"), *AGAIN).said


@pytest.mark.usefixtures("unchanged")
def test_what_others_have_built_upon_the_tables_is_not_torn_down(url: URL, operator: Operator, file: Path) -> None:
    with fresh(url) as connection:
        connection.execute(text("CREATE SCHEMA reports"))
        connection.execute(text("CREATE VIEW reports.people AS SELECT email FROM users"))
        ended = operator.restore(file, *AGAIN)
        connection.execute(text("DROP SCHEMA reports CASCADE"))

    assert ended.code == 1
    assert "(view reports.people depends on table users)" in ended.said
    assert "Nothing was changed." in ended.said


@pytest.mark.usefixtures("unchanged")
def test_two_at_once_are_one(url: URL, operator: Operator, file: Path) -> None:
    with fresh(url) as connection:
        connection.execute(text(f"SELECT pg_advisory_lock({0x4B45454C})"))
        assert "is being restored by somebody else." in operator.restore(file, *AGAIN).said


@pytest.mark.usefixtures("unchanged")
def test_an_account_that_may_not_make_tables_is_told_so(url: URL, settings: Settings, file: Path) -> None:
    name = f"plain_{uuid4().hex}"
    with fresh(url) as connection:
        connection.execute(text(f"CREATE ROLE {name} LOGIN PASSWORD 'sesame' IN ROLE pg_read_all_data"))
        plain = url.difference_update_query(["passfile"]).set(username=name, password="sesame")
        ended = Operator(plain, settings).restore(file, *AGAIN)
        connection.execute(text(f"DROP ROLE {name}"))

    assert ended.code == 1
    assert "permission denied for table" in ended.said


def test_a_database_that_was_made_for_nothing_is_gone_again(
    url: URL, settings: Settings, file: Path, original: bytes
) -> None:
    missing = url.set(database=f"new_{uuid4().hex}")
    operator = Operator(missing, settings)

    assert operator.restore(sealed_with(file, tables={})).code == 1
    assert missing.database not in databases(url)

    file.write_bytes(original)
    assert operator.restore(file).code == 0
    assert content(missing)[0]["users"] == content(url)[0]["users"]


def test_the_version_of_the_policy_never_stands_for_two(url: URL, operator: Operator, file: Path) -> None:
    seen = []
    for _ in range(2):
        with fresh(url) as connection, Session(connection) as session:
            seen.append(PolicyService(session).version())
        assert operator.restore(file, *AGAIN).code == 0

    assert seen[0] < seen[1]


def test_jobs_that_waited_run_unless_they_are_dropped(url: URL, operator: Operator, tmp_path: Path) -> None:
    with fresh(url) as connection, Session(connection) as session:
        enqueue(session, delete_blob, blob_id=uuid4())
        session.commit()
    assert operator.back_up(tmp_path / "with", "--no-verify").code == 0

    assert "1 jobs will run, once more perhaps." in operator.restore(tmp_path / "with", *AGAIN).said
    assert "Dropped 1 jobs." in operator.restore(tmp_path / "with", *AGAIN, "--drop-jobs").said
    with fresh(url) as connection:
        assert connection.scalar(text("SELECT count(*) FROM saq_jobs")) == 0


def test_a_copy_is_another_database_and_does_what_the_original_would_do_no_second_time(
    url: URL, settings: Settings, tmp_path: Path
) -> None:
    with fresh(url) as connection, Session(connection) as session:
        enqueue(session, delete_blob, blob_id=uuid4())
        session.commit()
    assert Operator(url, settings).back_up(tmp_path / "with", "--no-verify").code == 0
    copy = url.set(database=f"copy_{uuid4().hex}")

    ended = Operator(copy, settings).restore(tmp_path / "with", "--copy", "--keep-sessions")

    assert "Dropped 1 jobs." in ended.said
    identity = text("SELECT id FROM database_identities")
    with fresh(url) as one, fresh(copy) as other:
        assert one.scalar(identity) != other.scalar(identity)


def test_files_whose_content_is_gone_are_named(url: URL, settings: Settings, tmp_path: Path) -> None:
    own = settings.model_copy(update={"storage_url": (tmp_path / "files").as_uri()})
    operator, storage = Operator(url, own), Storage.of(own)
    with fresh(url) as connection, Session(connection) as session:
        owner_id = session.scalar(text("SELECT id FROM users"))
        kept, lost = (FileFactory.build(owner_id=owner_id) for _ in range(2))
        session.add_all([kept, lost])
        session.commit()
        kept_id, lost_id = kept.id, lost.id
    storage.put(kept_id, b"here", media_type="text/plain", disposition="inline")
    assert operator.back_up(tmp_path / "with", "--no-verify").code == 0

    said = operator.restore(tmp_path / "with", *AGAIN).said

    assert f"1 files have lost their content, which is not in the storage: {lost_id}" in said
    assert str(kept_id) not in said
    with fresh(url) as connection, Session(connection) as session:
        assert session.get(File, lost_id) is not None


def test_rights_of_other_roles_come_back_unless_they_are_not_wanted(
    url: URL, operator: Operator, tmp_path: Path
) -> None:
    name, may_read = f"role_{uuid4().hex}", text("SELECT has_table_privilege(:name, 'items', 'SELECT')")
    with fresh(url) as connection:
        connection.execute(text(f"CREATE ROLE {name}"))
        connection.execute(text(f"GRANT SELECT ON items TO {name}"))
        assert operator.back_up(tmp_path / "with", "--no-verify").code == 0
        for options, expected in (((), True), (("--no-privileges",), False)):
            assert operator.restore(tmp_path / "with", *AGAIN, *options).code == 0
            assert connection.scalar(may_read, {"name": name}) is expected
        connection.execute(text(f"DROP ROLE {name}"))


def test_a_backup_of_an_older_version_is_upgraded_afterwards(
    live_database: URL, settings: Settings, tmp_path: Path
) -> None:
    operator, commands = Operator(live_database, settings), AlembicCommands(alchemy_config(live_database))
    commands.downgrade("0005")
    assert operator.back_up(tmp_path / "old").code == 0
    commands.upgrade()

    ended = operator.restore(tmp_path / "old", *AGAIN)

    assert ended.code == 0, ended.said
    assert "run `litestar database upgrade --no-prompt`" in ended.said
    commands.upgrade()
    with fresh(live_database) as connection:
        assert connection.scalar(text("SELECT count(*) FROM posts")) == 0
