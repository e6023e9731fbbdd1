"""`litestar seed`: the same people every time, and nothing twice."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest
from sqlalchemy import URL, text

from app.domain.users.models import User
from app.lib.db.database import Database
from app.lib.email_address import canonical_email
from app.lib.passwords import Passwords
from app.lib.settings import Settings
from app.server.commands.seed import PASSWORD
from app.server.sample_data import BATCH, DAYS, SampleData, person
from tests.backup_runs import fresh, quietly
from tests.command_line import CommandLine, command_line

pytestmark = pytest.mark.integration
Litestar = Callable[..., CommandLine]
ROWS = text("""
    SELECT 'user', id, email, updated_at FROM users UNION ALL SELECT 'item', id, title, updated_at FROM items
    UNION ALL SELECT 'post', id, title, updated_at FROM posts
    UNION ALL SELECT 'role', user_id, name, NULL FROM role_assignments JOIN roles ON roles.id = role_id
    ORDER BY 1, 2, 3
""")
HASHES = text("SELECT DISTINCT password_hash FROM users")


@pytest.fixture
def litestar(live_database: URL, settings: Settings) -> Iterator[Litestar]:
    with ExitStack() as stack:
        yield lambda app_env="development": stack.enter_context(
            command_line(settings.model_copy(update={"app_env": app_env}), live_database)
        )


def rows(url: URL) -> list[tuple[object, ...]]:
    with fresh(url) as connection:
        return [tuple(row) for row in connection.execute(ROWS)]


def test_the_same_count_has_the_same_rows_and_more_of_them_come_after_the_others(
    litestar: Litestar, live_database: URL
) -> None:
    command = litestar()
    code, said = command("seed", "--count", "20")
    assert (code, said.splitlines()[0]) == (0, "Made 20 accounts with their items and posts; 0 were there.")
    few = rows(live_database)
    assert command("seed", "--count", "20")[1] == "Made 0 accounts with their items and posts; 20 were there.\n"
    assert rows(live_database) == few

    assert command("seed", "--count", "30")[1].startswith("Made 10 accounts with their items and posts; 20 were there.")
    many = rows(live_database)
    assert set(few) < set(many)
    with fresh(live_database) as connection:
        connection.execute(text("DELETE FROM users"))
    assert command("seed", "--count", "30")[0] == 0
    assert rows(live_database) == many


def test_what_somebody_has_changed_or_deleted_stays_so(litestar: Litestar, live_database: URL) -> None:
    command = litestar()
    command("seed", "--count", "10")
    with fresh(live_database) as connection:
        connection.execute(text("DELETE FROM items"))
        connection.execute(text("UPDATE users SET first_name = 'Augusta'"))
        connection.execute(text("UPDATE users SET email = id || '@example.org'"))
        connection.execute(text("DELETE FROM roles WHERE name = 'viewer'"))
    before = rows(live_database)

    assert command("seed", "--count", "10")[0] == 0
    assert rows(live_database) == before
    assert command("seed", "--count", "20")[0] == 0  # with one role less


def test_an_address_that_is_taken_is_left_to_whoever_has_it(litestar: Litestar, live_database: URL) -> None:
    command, taken = litestar(), person(0).user["email"]
    command("users", "create", taken, "--first-name", "Ada", "--last-name", "Lovelace")

    assert command("seed", "--count", "3")[1].startswith("Made 2 accounts with their items and posts; 1 were there.")


@pytest.mark.parametrize(
    ("app_env", "options", "has_password"),
    [("development", (), True), ("test", (), False), ("production", ("--allow-production",), False)],
    ids=["development", "test", "production"],
)
def test_only_in_development_can_anybody_sign_in_to_them(
    litestar: Litestar, live_database: URL, app_env: str, options: tuple[str, ...], *, has_password: bool
) -> None:
    code, said = litestar(app_env)("seed", "--count", "3", *options)

    with fresh(live_database) as connection:
        [password_hash] = connection.scalars(HASHES)
    assert code == 0
    assert (PASSWORD in said) is has_password
    assert Passwords(concurrency=1).verify(PASSWORD, password_hash) is has_password


def test_production_is_left_alone_unless_somebody_says_so(litestar: Litestar, live_database: URL) -> None:
    code, said = litestar("production")("seed")

    assert (code, said) == (
        1,
        "Error: This is production (APP_ENV): to fill it with sample data, say --allow-production.",
    )
    assert rows(live_database) == []


def test_two_at_once_make_each_of_them_once(live_database: URL) -> None:
    database = Database(live_database, pool_size=2)

    with ThreadPoolExecutor(2) as threads:
        made = threads.map(lambda _: SampleData(database).make(BATCH + 1, password_hash=None, report=quietly), range(2))
        assert sum(made) == BATCH + 1
    database.dispose()


def test_what_they_do_is_in_the_audit_log_and_the_policy_is_another(litestar: Litestar, live_database: URL) -> None:
    with fresh(live_database) as connection:
        version = text("SELECT number FROM policy_versions")
        before = connection.scalar(version)
        litestar()("seed", "--count", "20")
        assert connection.scalar(version) > before
        counted = connection.execute(text("SELECT action, count(*) FROM audit_events GROUP BY action"))
        actions = dict(map(tuple, counted))
        given = connection.scalar(text("SELECT count(*) FROM role_assignments"))

    assert actions == {"user.created": 20, "role.given": given}


@pytest.mark.parametrize("number", [0, 999_999])
def test_they_are_like_real_ones_and_no_administrators(number: int) -> None:
    made = person(number)
    user = User(**made.user)

    assert canonical_email(user.email) == user.email
    assert user.email.endswith("@example.com")
    assert user.id.version == 7
    assert not user.is_superuser
    assert made.role != "admin"


def test_a_thousand_of_them_are_different_people_with_a_past() -> None:
    people = [person(number) for number in range(1000)]
    made = [row for each in people for row in (each.user, *each.items, *each.posts)]

    assert len({row["id"] for row in made}) == len(made)
    assert {each.role for each in people} == {"editor", "viewer", None}
    assert {row["published"] for each in people for row in each.posts} == {True, False}
    assert max(row["created_at"] for row in made).year <= 2024 + DAYS // 365
