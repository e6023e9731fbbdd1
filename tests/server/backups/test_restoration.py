"""What can go wrong while a backup is restored: then everything is as it was, and one line says why."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import pytest
from sqlalchemy import URL, Connection, event, text
from sqlalchemy.orm import Session

from app.lib.settings import Settings
from app.server.backups import programs as postgres_clients
from app.server.backups.files import FOOTER, seal, unseal
from app.server.backups.table_sums import TableSum
from tests.backup_runs import (
    Operator,
    content,
    databases,
    fresh,
    program_before,
    quietly,
    said_when_stopped,
    start_with,
)
from tests.factories.users import UserFactory
from tests.live import wait_until

pytestmark = pytest.mark.e2e
AGAIN = ("--clean", "--yes")
KILL_OTHERS = text("""
    SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()
""")


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
        ({"revisions": []}, "was made by a version of Keel that this one cannot read."),
        ({"keel": "\x1b[31m"}, "was made by a version of Keel that this one cannot read."),
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
        elsewhere = Operator(plain.set(database="nowhere"), settings).restore(file)
        connection.execute(text(f"DROP ROLE {name}"))

    assert "may not make tables in the schema public: restore with the account that migrates" in ended.said
    assert f"There is no database nowhere, and {name} may not make it: run `CREATE DATABASE" in elsewhere.said


BEFORE_THE_ROWS = 'case "$*" in *--section=data*) {act};; esac'
"""The old tables are gone, for this transaction, and the new ones are empty."""


@pytest.mark.usefixtures("unchanged")
def test_a_stop_in_the_middle_changes_nothing(url: URL, file: Path, tmp_path: Path) -> None:
    act = BEFORE_THE_ROWS.format(act=f"touch {tmp_path}/running; exec sleep 60")
    endless = program_before("pg_restore", tmp_path / "programs", act)
    said = said_when_stopped(
        start_with(endless, url, "restore", file, *AGAIN, local=tmp_path / "local"), tmp_path / "running"
    )

    assert said == "Error: Stopped. Nothing was changed.\n"


@pytest.mark.usefixtures("unchanged")
def test_a_lost_connection_in_the_middle_changes_nothing(
    url: URL, operator: Operator, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    act = BEFORE_THE_ROWS.format(act=f"touch {tmp_path}/running; while [ -e {tmp_path}/running ]; do sleep 0.05; done")
    waiting = program_before("pg_restore", tmp_path / "programs", act)
    monkeypatch.setattr(postgres_clients, "_places", lambda _: [waiting])
    with ThreadPoolExecutor(1) as threads, fresh(url) as connection:
        ended = threads.submit(operator.restore, file, *AGAIN)
        wait_until((tmp_path / "running").exists, seconds=30)
        connection.execute(KILL_OTHERS)
        (tmp_path / "running").unlink()

        assert ended.result(30).code == 1
        assert "The database refused: the connection is lost. Nothing was changed." in ended.result().said


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


def test_a_database_that_was_made_stays_when_what_became_of_its_rows_is_not_known(
    url: URL, settings: Settings, file: Path
) -> None:
    missing = url.set(database=f"new_{uuid4().hex}")
    operator = Operator(missing, settings)

    def cut_off(_: Connection) -> None:
        with fresh(missing) as connection:
            connection.execute(KILL_OTHERS)

    event.listen(operator.engine, "commit", cut_off)
    ended = operator.restore(file)

    assert ended.code == 1
    assert "whether the backup is restored is not known" in ended.said
    assert missing.database in databases(url)
