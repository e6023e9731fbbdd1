from datetime import date
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from app.domain.users.services import UserService
from app.lib.jobs.declaration import JobDeclarationError, job

pytestmark = pytest.mark.unit


class Postbox:
    """Something that jobs are given by type."""

    def __init__(self) -> None:
        self.letters: list[Any] = []


@job()
def post_letter(
    session: Session, users: UserService, postbox: Postbox, *, user_id: UUID, day: date, copies: int = 1
) -> None:
    assert users.session is session
    postbox.letters.append((user_id, day, copies))


def a_session() -> Session:
    """Bound to an engine that is never asked for a connection."""
    return Session(create_engine("postgresql+psycopg://nobody@127.0.0.1:1/nowhere"))


def test_a_job_is_named_after_its_feature() -> None:
    assert post_letter.name == "jobs.post_letter"


def test_what_a_job_asks_for_is_provided_by_type_and_its_arguments_are_as_they_were() -> None:
    postbox, user_id, day = Postbox(), uuid4(), date(2026, 1, 31)

    stored = post_letter.encode({"user_id": user_id, "day": day})
    post_letter.run(a_session(), {Postbox: postbox}, stored)

    assert stored == {"user_id": str(user_id), "day": "2026-01-31", "copies": 1}
    assert postbox.letters == [(user_id, day, 1)]


def test_a_job_is_still_a_function() -> None:
    postbox, user_id = Postbox(), uuid4()
    session = a_session()

    post_letter(session, UserService(session), postbox, user_id=user_id, day=date(2026, 1, 31))

    assert postbox.letters == [(user_id, date(2026, 1, 31), 1)]


def with_a_secret(*, token: str) -> None: ...


def with_a_reserved_name(*, after: int) -> None: ...


def with_an_argument(*, number: int) -> None: ...


@pytest.mark.parametrize("function", [with_a_secret, with_a_reserved_name])
def test_text_and_names_of_ours_cannot_be_arguments(function: Any) -> None:
    with pytest.raises(JobDeclarationError, match="cannot be an argument"):
        job()(function)


def without_a_type(session, *, user_id: UUID) -> None: ...  # type: ignore[no-untyped-def]  # that is the mistake


def test_a_parameter_without_a_type_is_named() -> None:
    with pytest.raises(JobDeclarationError, match="give a type to session"):
        job()(without_a_type)


def test_parentheses_that_are_missing_are_missed() -> None:
    with pytest.raises(JobDeclarationError, match="with its parentheses"):
        job(with_an_argument)  # type: ignore[call-overload, arg-type, unused-ignore]  # that is the mistake


@job()
def without_a_star(session: Session, user_id: UUID) -> None: ...


def test_what_nothing_provides_is_found_before_the_job_runs() -> None:
    with pytest.raises(JobDeclarationError, match=r"jobs\.without_a_star: nothing provides UUID"):
        without_a_star.check({Postbox: Postbox()})
    post_letter.check({Postbox: Postbox()})


@pytest.mark.parametrize(("function", "cron"), [(with_an_argument, "* * * * *"), (lambda: None, "every day")])
def test_a_periodic_job_takes_nothing_and_needs_a_good_cron_line(function: Any, cron: str) -> None:
    with pytest.raises(JobDeclarationError, match="valid cron line"):
        job(cron=cron)(function)


@pytest.mark.parametrize(
    ("options", "why"), [({"retries": 2}, "at least 3 retries"), ({"timeout": 0}, "needs a timeout")]
)
def test_a_job_that_could_be_lost_or_hang_for_ever_is_refused(options: dict[str, Any], why: str) -> None:
    with pytest.raises(JobDeclarationError, match=why):
        job(**options)
