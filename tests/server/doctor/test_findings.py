import socket
import time
from collections.abc import Iterator

import pytest

from app.lib.settings import Settings
from app.server.doctor.findings import Finding, examine, fine, one_line
from app.server.doctor.services import mail_findings

pytestmark = pytest.mark.unit


def test_who_never_answers_costs_the_time_of_one_check_and_hides_no_other(
    settings: Settings,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        mute = settings.model_copy(update={"mail_backend": "smtp", "smtp_host": "127.0.0.1", "smtp_port": port})
        began = time.monotonic()
        found = list(examine({"mail": lambda: mail_findings(mute), "x": lambda: [fine("x", "It is.")]}, patience=0.2))

    assert time.monotonic() - began < 2
    assert [(each.check, each.level) for each in found] == [("mail", "fault"), ("x", "ok")]
    assert "no complete answer within 0.2 s" in found[0].what


def test_a_check_that_fails_itself_is_a_fault_and_no_traceback() -> None:
    def breaks() -> Iterator[Finding]:
        yield fine("x", "It is.")
        raise RuntimeError("boom\nand more")

    first, second = examine({"x": breaks})

    assert (first.level, second.level) == ("ok", "fault")
    assert "RuntimeError: boom." in second.what


def test_what_a_server_says_of_itself_is_one_printable_line() -> None:
    assert one_line("550 no\x1b[31m way.\r\nand more") == "550 no[31m way"
    assert one_line("") == ""
