"""What can go wrong while a backup is made: then there is no file, and one line says why."""

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import psutil
import pytest
from sqlalchemy import URL, text

from app.lib.settings import Settings
from app.server.backups import programs as postgres_clients
from tests.backup_runs import Operator, databases, fresh, program_before, said_when_stopped, start_with

pytestmark = pytest.mark.e2e
PASSWORD = "sesame, which nobody must see"
Program = Callable[[str], Path]


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """A pg_dump that does something else before it, or instead of it."""
    return functools.partial(program_before, "pg_dump", tmp_path / "programs")


@pytest.fixture(scope="module")
def url(new_database: Callable[[], URL]) -> URL:
    return new_database()


@pytest.fixture
def operator(url: URL, settings: Settings) -> Operator:
    return Operator(url, settings)


@pytest.fixture(scope="module")
def reader(url: URL) -> Iterator[URL]:
    """An account with a password that may read everything, and make nothing."""
    name = f"reader_{uuid4().hex}"
    with fresh(url) as connection:
        connection.execute(text(f"CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}' IN ROLE pg_read_all_data"))
    yield url.difference_update_query(["passfile"]).set(username=name, password=PASSWORD)
    with fresh(url) as connection:
        connection.execute(text(f"DROP ROLE {name}"))


def files(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in tmp_path.iterdir() if path.is_file())


def test_only_its_owner_can_read_it_and_it_replaces_nothing_unasked(operator: Operator, tmp_path: Path) -> None:
    file = tmp_path / "backup"

    assert operator.back_up(file).code == 0
    first = file.read_bytes()

    assert file.stat().st_mode & 0o777 == 0o600
    assert f"{file} is there already" in operator.back_up(file, "--no-verify").said
    assert file.read_bytes() == first
    assert operator.back_up(file, "--no-verify", "--overwrite").code == 0
    assert list(tmp_path.iterdir()) == [file]


def test_a_link_that_leads_nowhere_is_a_place_that_is_taken(operator: Operator, tmp_path: Path) -> None:
    (tmp_path / "backup").symlink_to(tmp_path / "nowhere")

    assert "is there already" in operator.back_up(tmp_path / "backup", "--no-verify").said
    assert files(tmp_path) == []


def test_the_audit_log_says_where_the_copy_went(url: URL, operator: Operator, tmp_path: Path) -> None:
    file = tmp_path / "backup"
    assert operator.back_up(file, "--no-verify").code == 0

    newest = text("SELECT action, subject_id, source, details FROM audit_events ORDER BY created_at DESC LIMIT 1")
    with fresh(url) as connection:
        action, subject, source, details = connection.execute(newest).one()
    assert (action, subject, source) == ("database.backed_up", url.database, "command line")
    assert (details["file"], details["is_verified"]) == (str(file), False)


def test_a_place_that_cannot_be_written_is_one_line(operator: Operator, tmp_path: Path) -> None:
    assert "is a directory: name a file in it." in operator.back_up(tmp_path).said
    ended = operator.back_up(tmp_path / "nothing" / "backup")
    assert (ended.code, ended.said.count("cannot be written: No such file or directory.")) == (1, 1)


def test_whoever_may_not_verify_hears_it_before_anything_is_done(
    reader: URL, settings: Settings, tmp_path: Path
) -> None:
    operator = Operator(reader, settings)

    assert "CREATEDB`, or say --no-verify." in operator.back_up(tmp_path / "backup").said
    assert list(tmp_path.iterdir()) == []
    ended = operator.back_up(tmp_path / "backup", "--no-verify")
    assert ended.code == 0
    assert "The audit log does not have it: permission denied for table audit_events." in ended.said


def test_a_database_without_tables_is_no_backup(url: URL, settings: Settings, tmp_path: Path) -> None:
    operator = Operator(url.set(database="postgres"), settings)

    assert "has no tables of Keel in it" in operator.back_up(tmp_path / "backup").said


def test_an_older_pg_dump_is_refused_with_what_to_install(
    operator: Operator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = tmp_path / "pg_dump"
    old.write_text("#!/bin/sh\necho 'pg_dump (PostgreSQL) 15.3 (Debian)'\n")
    old.chmod(0o755)
    monkeypatch.setattr(postgres_clients, "_places", lambda _: [old])
    assert "pg_dump is version 15, but version 18 is needed: install" in operator.back_up(tmp_path / "backup").said

    monkeypatch.setattr(postgres_clients, "_places", lambda _: [])
    assert "pg_dump is not installed: install" in operator.back_up(tmp_path / "backup").said


def test_a_full_disk_leaves_nothing(
    operator: Operator, program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A limit on the size of files is refused in the same place, and needs no disk."""
    limited = program("ulimit -f 32")
    monkeypatch.setattr(postgres_clients, "_places", lambda _: [limited])

    ended = operator.back_up(tmp_path / "backup", "--no-verify")

    assert ended.code == 1
    assert "pg_dump failed: " in ended.said
    assert "File" in ended.said
    assert files(tmp_path) == []


def test_the_password_is_not_among_the_arguments_that_everybody_can_see(
    reader: URL, settings: Settings, program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = program(f"tr '\\0' '\\n' < /proc/$$/cmdline > {tmp_path}/seen; env > {tmp_path}/inherited")
    monkeypatch.setattr(postgres_clients, "_places", lambda _: [watched])
    monkeypatch.setenv("SECRET_KEY", "another secret")

    assert Operator(reader, settings).back_up(tmp_path / "backup", "--no-verify").code == 0

    assert "--format=custom" in (tmp_path / "seen").read_text()
    assert PASSWORD not in (tmp_path / "seen").read_text()
    assert "another secret" not in (tmp_path / "inherited").read_text()


def test_a_stop_in_the_middle_leaves_neither_a_file_nor_a_process(url: URL, program: Program, tmp_path: Path) -> None:
    endless = program(f"echo $$ > {tmp_path}/starting; mv {tmp_path}/starting {tmp_path}/running; exec sleep 60")
    said = said_when_stopped(
        start_with(endless, url, "backup", tmp_path / "backup", local=tmp_path / "local"), tmp_path / "running"
    )

    assert said == "Error: Stopped. No file was written.\n"
    assert files(tmp_path) == ["running"]
    assert not psutil.pid_exists(int((tmp_path / "running").read_text()))


def test_scratch_databases_go_also_those_that_a_killed_backup_has_left(
    url: URL, operator: Operator, tmp_path: Path
) -> None:
    with fresh(url) as connection:
        connection.execute(text("CREATE DATABASE keel_scratch_1600000000_cafe"))

    assert operator.back_up(tmp_path / "backup").code == 0

    assert not [name for name in databases(url) if name.startswith("keel_scratch_16000")]
