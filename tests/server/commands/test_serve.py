"""What `litestar serve` does before Granian takes over (tests/e2e/test_shutdown.py)."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from litestar import Litestar

from app.lib.settings import Settings
from app.server.commands.serve import plan
from app.server.envelope import BODY_SECONDS, SLOWEST_BODY
from app.server.serving.listening import ListenError
from app.server.serving.processors import usable_processors
from tests.command_line import CommandLine

pytestmark = pytest.mark.unit


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Addresses of sockets must be short, so the tests name them from here."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def server(directory: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("api.sock")
        server.listen()
        yield server


def test_it_has_as_many_processes_as_processors_and_as_much_grace_as_the_slowest_upload(settings: Settings) -> None:
    serving = plan(settings, port=1)

    assert serving.workers == usable_processors()
    assert serving.grace > BODY_SECONDS + settings.max_upload_size / SLOWEST_BODY


def test_a_taken_port_is_refused(settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(ListenError, match="already in use"):
        plan(settings, port=taken.getsockname()[1])


def test_the_port_of_the_metrics_is_refused(settings: Settings) -> None:
    watched = settings.model_copy(update={"metrics_port": 9100})

    with pytest.raises(ListenError, match="it is METRICS_PORT"):
        plan(watched, port=9100)


def test_up_refuses_the_port_of_the_metrics(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    watched = settings.model_copy(update={"metrics_port": 9100})
    monkeypatch.setattr("app.server.commands.up.get_settings", lambda: watched)
    monkeypatch.setattr("app.server.commands.up._stop_on_signals", lambda: None)
    monkeypatch.setenv("PUBLIC_URL", "")  # it sets it
    app = Litestar(openapi_config=None, logging_config=None)

    ended = CommandLine(app).run("up", "--port", "9100")

    assert ended.exit_code == 1
    assert ended.stdout == "Error: Cannot listen on port 9100: it is METRICS_PORT. Choose another with --port.\n"


def test_a_socket_on_which_another_server_listens_is_refused(settings: Settings, server: socket.socket) -> None:
    with pytest.raises(ListenError, match="another server does"):
        plan(settings, socket=Path("api.sock"))


def test_a_socket_that_a_killed_server_left_behind_is_removed(settings: Settings, server: socket.socket) -> None:
    server.close()

    serving = plan(settings, socket=Path("api.sock"))

    assert serving.socket == str(Path("api.sock").absolute())
    assert not Path("api.sock").exists()


@pytest.mark.parametrize(
    ("path", "sentence"),
    [("note.txt", "something else has this name"), ("nowhere/api.sock", "there is no directory")],
    ids=["a file", "no directory"],
)
def test_what_is_no_socket_is_left_alone(path: str, sentence: str, settings: Settings, directory: Path) -> None:
    (directory / "note.txt").write_text("keep me")

    with pytest.raises(ListenError, match=sentence):
        plan(settings, socket=Path(path))
    assert (directory / "note.txt").read_text() == "keep me"
