import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from app.server.serving.processes import ChildProcess, ProcessError

pytestmark = pytest.mark.e2e

FAMILY = """
import os, signal, sys, time
from pathlib import Path
if {is_stubborn}:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
pid = os.fork()
if pid:
    Path({born!r}).write_text(str(pid))
time.sleep(60)
"""
KILLED_UP = """
import os, signal, sys
from pathlib import Path
from app.server.serving.processes import ChildProcess
child = ChildProcess("sleeper", ["sleep", "60"], record=Path(sys.argv[1]), grace=5)
child.start()
os.kill(os.getpid(), signal.SIGKILL)
"""
JOINING = """
from app.server.serving.processes import join_process
join_process()
print("joined", flush=True)
input()
"""


def family(tmp_path: Path, *, is_stubborn: bool = False) -> ChildProcess:
    """A process and its child; returns when both live."""
    born = tmp_path / "born"
    code = FAMILY.format(born=str(born), is_stubborn=is_stubborn)
    child = ChildProcess("family", [sys.executable, "-c", code], record=tmp_path / "record", grace=0.2)
    child.start()
    child.is_serving = True
    wait_until(lambda: born.exists() and born.read_text() != "")
    return child


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    status = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return status.stdout.strip()[:1] not in ("", "Z")


@pytest.mark.parametrize("is_stubborn", [False, True])
def test_stopping_a_process_stops_its_descendants(tmp_path: Path, *, is_stubborn: bool) -> None:
    child = family(tmp_path, is_stubborn=is_stubborn)
    descendant = int((tmp_path / "born").read_text())
    assert is_alive(descendant)
    child.stop()
    assert child.has_ended()
    assert not is_alive(descendant)


def test_what_a_killed_up_left_behind_is_ended(tmp_path: Path) -> None:
    record = tmp_path / "record"
    subprocess.run([sys.executable, "-c", KILLED_UP, str(record)], check=False)
    left_behind = int(record.read_text())
    assert is_alive(left_behind)
    ChildProcess("sleeper", [], record=record, grace=5).end_leftover()
    assert not is_alive(left_behind)


def test_a_recorded_number_that_now_belongs_to_a_stranger_is_left_alone(tmp_path: Path) -> None:
    record = tmp_path / "record"
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as stranger:
        record.write_text(str(stranger.pid))
        ChildProcess("sleeper", [], record=record, grace=5).end_leftover()
        assert stranger.poll() is None
        stranger.kill()


def test_a_process_that_inherited_nothing_can_join(tmp_path: Path) -> None:
    record = tmp_path / "record"
    record.touch()
    environment = {**os.environ, "KEEL_PROCESS_RECORD": str(record)}
    command = [sys.executable, "-c", JOINING]
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    ) as joined:
        assert joined.stdout
        assert joined.stdout.readline() == b"joined\n"
        with pytest.raises(ProcessError, match="must be ended by hand"):
            ChildProcess("sleeper", [], record=record, grace=5).end_leftover()
        record.write_text(str(joined.pid))
        ChildProcess("sleeper", [], record=record, grace=5).end_leftover()
        assert joined.wait(10) != 0
