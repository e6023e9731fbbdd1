"""What is so after a restoration: what has happened since, what waited, what a copy may do, and what is missing."""

from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

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
from app.server.plugins import alchemy_config
from tests.backup_runs import Operator, fresh
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


def test_the_version_of_the_policy_never_stands_for_two(url: URL, operator: Operator, tmp_path: Path) -> None:
    file, seen = tmp_path / "backup", []
    assert operator.back_up(file, "--no-verify").code == 0
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


def test_the_audit_log_has_the_restoration_of_an_older_version_that_had_one(
    live_database: URL, settings: Settings, tmp_path: Path
) -> None:
    operator, commands = Operator(live_database, settings), AlembicCommands(alchemy_config(live_database))
    commands.downgrade("0010")
    assert operator.back_up(tmp_path / "old", "--no-verify").code == 0
    commands.upgrade()

    assert operator.restore(tmp_path / "old", *AGAIN).code == 0

    with fresh(live_database) as connection:
        recorded = connection.scalars(text("SELECT action FROM audit_events ORDER BY created_at")).all()
    assert recorded == ["database.backed_up", "database.restored"]
