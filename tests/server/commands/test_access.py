import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import URL, NullPool, create_engine, text

from app.lib.settings import Settings
from tests.command_line import CommandLine, command_line

pytestmark = pytest.mark.integration
ADA = """
    INSERT INTO users (id, email, first_name, last_name, is_active, is_verified, is_superuser, created_at, updated_at)
    VALUES (gen_random_uuid(), 'ada@example.com', 'Ada', 'Lovelace', true, true, false, now(), now())
"""
ASKED = """
    INSERT INTO audit_events (id, created_at, action, outcome, permission, source, actor_id, count)
    SELECT gen_random_uuid(), now(), 'access.denied', 'denied', 'posts:read', 'test', id, 1 FROM users
"""


@pytest.fixture
def litestar(settings: Settings, live_database: URL) -> Iterator[CommandLine]:
    with command_line(settings, live_database) as litestar:
        yield litestar


def write(url: URL, statement: str) -> None:
    with create_engine(url, poolclass=NullPool).begin() as connection:
        connection.execute(text(statement))


def test_a_role_is_given_explained_and_compared_and_routes_are_audited(
    litestar: CommandLine, live_database: URL, tmp_path: Path
) -> None:
    ada, policy = "ada@example.com", tmp_path / "policy.json"
    write(live_database, ADA)

    assert litestar("roles", "grant", ada, "viewer") == (0, f"{ada} has the role viewer.\n")
    code, said = litestar("access", "explain", ada, "posts", "read")
    assert (code, said.splitlines()[0], said.splitlines()[-1]) == (0, "allowed (granted)", "through viewer")
    assert "allow posts:read if r.obj.published or r.obj.owner_id == r.sub.id  (to role viewer, " in said

    said = json.loads(litestar("access", "explain", ada, "posts", "read", "--json")[1])
    assert (said["allowed"], said["items"][0]["role"], said["roles"]) == (True, "viewer", ["viewer"])

    stricter = json.loads(litestar("access", "export")[1])
    stricter["roles"]["viewer"]["permissions"] = []
    policy.write_text(json.dumps(stricter))
    write(live_database, ASKED)
    change = f"{ada}  posts:read  allowed now, refused then\n1 recorded decision would change.\n"
    assert litestar("access", "diff", str(policy)) == (1, change)
    assert [flip["is_allowed"] for flip in litestar.items("access", "diff", str(policy))] == [True]

    write(live_database, "DELETE FROM permission_grants WHERE resource = 'jobs' AND action = 'read'")
    code, said = litestar("access", "audit")
    lines = [re.split(r"\s{2,}", line) for line in said.splitlines()]
    assert ["GET", "/api/v1/roles", "requires roles:read", "roles:read"] in lines
    assert ["POST", "/api/v1/roles", "requires roles:create and recently_authenticated", "-"] in lines
    assert (code, lines[-1]) == (1, ["Gap: jobs:read is required by a route and given to nobody."])
    audit = json.loads(litestar("access", "audit", "--json")[1])
    assert audit["gaps"] == ["jobs:read is required by a route and given to nobody"]
    rule = {"method": "GET", "path": "/api/v1/roles", "rule": "requires roles:read", "scope": "roles:read"}
    assert rule in audit["items"]


def test_what_is_not_there_is_said_in_one_line(litestar: CommandLine) -> None:
    assert "There is no such user." in litestar("access", "explain", "a@example.com", "posts", "read")[1]
