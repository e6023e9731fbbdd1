import threading
from email.message import EmailMessage
from pathlib import Path
from uuid import uuid4

import pytest

from app.lib.mail.folder import KEPT, MailFolder

pytestmark = pytest.mark.unit


def mail(subject: object) -> EmailMessage:
    message = EmailMessage()
    message["Subject"] = str(subject)
    message.set_content("Hello.\n")
    return message


def subjects(folder: MailFolder) -> list[str]:
    return [kept.message["Subject"] for kept in folder.newest_first()]


def test_a_mail_is_a_file_that_only_the_owner_may_read(tmp_path: Path) -> None:
    folder = MailFolder(tmp_path / "local" / "mail")

    folder.deliver(mail("one"))

    [file] = (tmp_path / "local" / "mail").iterdir()
    assert (file.suffix, file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (".eml", 0o600, 0o700)


def test_the_newest_stay_and_the_oldest_go(tmp_path: Path) -> None:
    folder = MailFolder(tmp_path)

    for number in range(KEPT + 3):
        folder.deliver(mail(number))

    assert subjects(folder) == [str(number) for number in reversed(range(3, KEPT + 3))]


def test_many_may_write_at_once(tmp_path: Path) -> None:
    def write() -> None:
        for number in range(60):
            MailFolder(tmp_path).deliver(mail(number))

    writers = [threading.Thread(target=write) for _ in range(4)]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        assert all(kept.source for kept in MailFolder(tmp_path).newest_first())

    assert len(subjects(MailFolder(tmp_path))) == KEPT


def test_a_mail_is_found_by_its_id_and_nothing_by_another(tmp_path: Path) -> None:
    folder = MailFolder(tmp_path)
    folder.deliver(mail("one"))
    [kept] = folder.newest_first()

    assert folder.get(kept.id) == kept
    assert folder.get(uuid4()) is None


def test_a_folder_that_is_not_there_is_empty(tmp_path: Path) -> None:
    folder = MailFolder(tmp_path / "none")

    assert (subjects(folder), folder.get(uuid4())) == ([], None)
