"""What an access decision costs, and what a change of the policy costs everybody else.

    .venv/bin/python -m benchmarks.access

10 000 rules, 1 000 roles that inherit from each other in 10 levels, 10 000 people with roles. It starts a PostgreSQL of
its own and one server, and takes about a minute.
"""

import gc
import logging
import random
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from uuid import UUID, uuid4

import casbin
import httpx
from advanced_alchemy.alembic.commands import AlembicCommands
from sqlalchemy import URL, NullPool, create_engine, make_url, text
from sqlalchemy.orm import Session

from app.domain.access.models import Permission
from app.domain.access.services import PolicyService
from app.domain.posts.models import Post
from app.lib.access.control import AccessControl
from app.lib.access.guards import Principal
from app.lib.access.policy import Grant, Policy
from app.server.plugins import alchemy_config
from app.server.postgres.embedded import EmbeddedPostgres
from tests.live import LiveServer

RULES, ROLES, PEOPLE = 10_000, 1_000, 10_000
CONDITIONS = [None, None, "r.obj.published", "r.obj.owner_id == r.sub.id", "not r.obj.published"]
PLAIN_MODEL = """
[request_definition]
r = sub, act
[policy_definition]
p = sub, act
[role_definition]
g = _, _
[policy_effect]
e = some(where (p.eft == allow))
[matchers]
m = r.act == p.act && g(r.sub, p.sub)
"""
STORE = """
    INSERT INTO users (id, email, first_name, last_name, is_active, is_verified, is_superuser, created_at, updated_at)
    SELECT gen_random_uuid(), n || '@example.com', 'Ada', 'Lovelace', true, true, false, now(), now()
    FROM generate_series(1, {people}) AS n;
    INSERT INTO roles SELECT gen_random_uuid(), 'role' || n, '', now(), now() FROM generate_series(1, {roles}) AS n;
    INSERT INTO role_parents SELECT gen_random_uuid(), below.id, above.id, NULL, now(), now()
    FROM generate_series(2, {roles}) AS n
    JOIN roles below ON below.name = 'role' || n JOIN roles above ON above.name = 'role' || n / 2;
    INSERT INTO role_assignments SELECT gen_random_uuid(), users.id, roles.id, NULL, now(), now()
    FROM generate_series(1, {people}) AS n
    JOIN users ON users.email = n || '@example.com' JOIN roles ON roles.name = 'role' || 1 + n % {roles};
    INSERT INTO permission_grants
    SELECT gen_random_uuid(), roles.id, NULL, 'posts', (ARRAY['read', 'update', 'delete', 'create'])[1 + n % 4],
        gen_random_uuid(), NULL, 'allow', NULL, now(), now()
    FROM generate_series(1, {rules}) AS n JOIN roles ON roles.name = 'role' || 1 + n % {roles}
"""


def policy() -> tuple[Policy, list[UUID]]:
    """The parent of `role7` is `role3`, and so on: the last ones inherit in 10 levels."""
    chance = random.Random(5)
    people = [uuid4() for _ in range(PEOPLE)]
    actions = [Permission.POSTS_READ, Permission.POSTS_UPDATE, Permission.POSTS_DELETE, Permission.POSTS_CREATE]
    grants = [
        Grant(uuid4(), f"role:role{1 + n % ROLES}", chance.choice(actions), None, chance.choice(CONDITIONS))
        for n in range(RULES)
    ]
    return (
        Policy(
            grants=grants,
            parents={f"role{n}": {f"role{n // 2}"} for n in range(2, ROLES + 1)},
            assignments={person: {f"role{chance.randint(1, ROLES)}" for _ in range(2)} for person in people},
        ),
        people,
    )


def somebody(user_id: UUID) -> Principal:
    return Principal(id=user_id, session_id=uuid4(), is_superuser=False, authenticated_at=0)


def post() -> Post:
    return Post(id=uuid4(), owner_id=uuid4(), title="Tea", body="", published=True)


def seconds(act: Callable[[], object], *, times: int = 1) -> float:
    began = time.perf_counter()
    for _ in range(times):
        act()
    return (time.perf_counter() - began) / times


def show(what: str, figures: Sequence[float], *, unit: float = 1e6, name: str = "us") -> None:
    ordered = sorted(figures)
    median, high, longest = statistics.median(ordered), ordered[int(len(ordered) * 0.99)], ordered[-1]
    print(f"{what:56} {median * unit:10.2f} {high * unit:10.2f} {longest * unit:10.2f} {name}")


def decisions() -> None:
    gc.freeze()
    access = AccessControl()
    access.policy, people = policy()
    users, posts = [somebody(person) for person in people], [post() for _ in people]
    show("cold: may", [seconds(partial(access.may, user, Permission.POSTS_READ)) for user in users])
    asked = zip(users, posts, strict=True)
    show("cold: allows", [seconds(partial(access.allows, user, Permission.POSTS_READ, row)) for user, row in asked])
    access.policy, people = policy()
    user, row = somebody(people[0]), post()
    show("kept: may", [seconds(lambda: access.may(user, Permission.POSTS_READ), times=1000) for _ in range(100)])
    kept = [seconds(lambda: access.allows(user, Permission.POSTS_READ, row), times=1000) for _ in range(100)]
    show("kept: allows (reads the attributes of the row)", kept)
    explain = partial(access.policy.explain, user.id, Permission.POSTS_READ, None)
    show("explain", [seconds(explain) for _ in range(100)])


def plain_casbin() -> None:
    """Role-based only, which is the least that it does; the comparison that is cheap comes first."""
    enforcer = casbin.Enforcer(casbin.Enforcer.new_model(text=PLAIN_MODEL))
    enforcer.add_policies([[f"role{1 + n % ROLES}", f"posts:{n % 4}"] for n in range(RULES)])
    enforcer.add_grouping_policies([[f"role{n}", f"role{n // 2}"] for n in range(2, ROLES + 1)])
    enforcer.add_grouping_policies([["ada", "role999"]])
    logging.getLogger("casbin.enforcer").disabled = True
    show("casbin.Enforcer.enforce alone", [seconds(lambda: enforcer.enforce("ada", "posts:9")) for _ in range(20)])


@contextmanager
def stored_policy(directory: Path) -> Iterator[URL]:
    with EmbeddedPostgres(directory / "postgres", durable=False) as postgres:
        url = make_url(postgres.url())
        AlembicCommands(alchemy_config(url)).upgrade()
        with create_engine(url, poolclass=NullPool).begin() as connection:
            for statement in STORE.format(people=PEOPLE, roles=ROLES, rules=RULES).split(";\n"):
                connection.execute(text(statement))
        yield url


def loading(url: URL) -> None:
    with Session(create_engine(url, poolclass=NullPool)) as session:
        load = PolicyService(session).load
        show("load from PostgreSQL and build", [seconds(load) for _ in range(10)], unit=1e3, name="ms")


def requests_during_changes(url: URL, directory: Path) -> None:
    """One client after the other, so that each figure is the time of one request."""
    server = LiveServer(url, log=directory / "server.log")
    server.start()
    try:
        token = server.sign_in(server.sign_up())["access_token"]
        with server.client(headers={"Authorization": f"Bearer {token}"}) as client:
            latencies(client)
            show("GET /items, policy unchanged", latencies(client), unit=1e3, name="ms")
            with changing(url):
                show("GET /items, policy changed once a second", latencies(client), unit=1e3, name="ms")
    finally:
        server.stop()


def latencies(client: httpx.Client) -> list[float]:
    found = []
    until = time.monotonic() + 10
    while time.monotonic() < until:
        found.append(seconds(lambda: client.get("/items").raise_for_status()))
    return found


@contextmanager
def changing(url: URL) -> Iterator[None]:
    is_over = threading.Event()

    def change() -> None:
        with create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT").connect() as connection:
            while not is_over.wait(1):
                connection.execute(text("UPDATE roles SET description = now()::text WHERE name = 'role1'"))

    thread = threading.Thread(target=change)
    thread.start()
    yield
    is_over.set()
    thread.join()


def main() -> None:
    print(
        f"{f'{RULES} rules, {ROLES} roles, {PEOPLE} people with roles':56} {'median':>10} {'99 %':>10} {'longest':>10}"
    )
    decisions()
    plain_casbin()
    with tempfile.TemporaryDirectory() as name, stored_policy(Path(name)) as url:
        loading(url)
        requests_during_changes(url, Path(name))


if __name__ == "__main__":
    main()
