"""Accounts in numbers, with tokens and belongings: written into the database, for signing up takes its time."""

from collections.abc import Callable
from typing import Any, NamedTuple
from uuid import UUID, uuid4

from sqlalchemy import NullPool, create_engine, delete, select
from sqlalchemy.orm import Session

from app.domain.access.models import Role, RoleAssignment
from app.domain.access.services import PolicyService
from app.domain.sessions.services import principal_of
from app.domain.users.models import User
from app.lib.api_keys import new_api_key
from app.lib.db.models import Model
from app.lib.random_secrets import hash_of
from app.lib.settings import Settings
from app.server.resources import access_tokens
from tests.attack.conftest import Keel
from tests.factories.api_keys import ApiKeyFactory
from tests.factories.identities import IdentityFactory
from tests.factories.items import ItemFactory
from tests.factories.posts import PostFactory
from tests.factories.sessions import UserSessionFactory
from tests.factories.users import UserFactory
from tests.live import SECRET_KEY
from tests.sample_files import picture

SECRET = "Bernoulli"
"""In the text of whatever belongs to somebody."""


class Person(NamedTuple):
    id: UUID
    email: str
    token: str


class Crowd:
    def __init__(self, keel: Keel) -> None:
        self.keel = keel
        self._engine = create_engine(keel.url, poolclass=NullPool)
        settings = Settings(_env_file=None, app_env="test", secret_key=SECRET_KEY, public_url="http://keel.test")
        self._tokens = access_tokens(settings)
        [stored] = keel.rows("SELECT id, password_hash FROM users WHERE email = :email", email=keel.sign_up())
        self._password_hash = stored.password_hash
        self._ids, self._roles = [stored.id], list[UUID]()

    def people(self, number: int, *, role: str | None = None, is_superuser: bool = False) -> list[Person]:
        """They have the password of every account that a test makes, and have signed in just now."""
        users = UserFactory.batch(
            number, password_hash=self._password_hash, is_superuser=is_superuser, last_name=SECRET
        )
        sessions = [UserSessionFactory.build(user_id=user.id) for user in users]
        with Session(self._engine, expire_on_commit=False) as session, session.begin():
            session.add_all(users)
            session.flush()
            session.add_all(sessions)
            if role:
                role_id = session.scalars(select(Role.id).where(Role.name == role)).one()
                session.add_all([RoleAssignment(user_id=user.id, role_id=role_id) for user in users])
                PolicyService(session).begin_change()
        self._ids += [user.id for user in users]
        return [
            Person(user.id, user.email, self._tokens.issue(principal_of(row, user)))
            for user, row in zip(users, sessions, strict=True)
        ]

    def key_of(self, owner: Person, *scopes: str) -> str:
        key = new_api_key()
        self._store(ApiKeyFactory.build(user_id=owner.id, scopes=list(scopes), key_hash=hash_of(key)))
        return key

    def path_to(self, place: str, owner: Person) -> str:
        """What stands at a place of a path, such as `items/{item_id}`: the id of something that belongs to them."""
        assert place in BELONGINGS or place in NAMES, f"say in tests/attack/crowd.py what stands at {place}"
        if place in NAMES:
            return NAMES[place]
        made = BELONGINGS[place](self, owner)
        return str(made.id) if isinstance(made, Model) else str(made)

    def role(self) -> str:
        """A new one, which nobody has, and with which nothing may be done."""
        role = Role(name=f"role-{uuid4().hex}")
        self._store(role)
        self._roles.append(role.id)
        return role.name

    def upload(self, owner: Person, method: str, path: str) -> dict[str, Any]:
        with self.keel.client(token=owner.token) as client:
            answer = client.request(method, path, files={"file": (f"{SECRET}.png", picture())})
        made: dict[str, Any] = answer.raise_for_status().json()
        return made

    def store(self, row: Model) -> Model:
        self._store(row)
        return row

    def _store(self, *rows: Model) -> None:
        with Session(self._engine, expire_on_commit=False) as session, session.begin():
            session.add_all(rows)

    def leave(self) -> None:
        """Others count the administrators."""
        with Session(self._engine) as session, session.begin():
            session.execute(delete(User).where(User.id.in_(self._ids)))
            session.execute(delete(Role).where(Role.id.in_(self._roles)))
            PolicyService(session).begin_change()
        self._engine.dispose()


Maker = Callable[[Crowd, Person], object]
BELONGINGS: dict[str, Maker] = {
    "items/{item_id}": lambda crowd, owner: crowd.store(ItemFactory.build(owner_id=owner.id, title=SECRET)),
    "posts/{post_id}": lambda crowd, owner: crowd.store(PostFactory.build(owner_id=owner.id, title=SECRET)),
    "sessions/{session_id}": lambda crowd, owner: crowd.store(
        UserSessionFactory.build(user_id=owner.id, user_agent=SECRET)
    ),
    "api-keys/{api_key_id}": lambda crowd, owner: crowd.store(ApiKeyFactory.build(user_id=owner.id, name=SECRET)),
    "identities/{identity_id}": lambda crowd, owner: crowd.store(
        IdentityFactory.build(user_id=owner.id, email=f"{SECRET}@example.com")
    ),
    "files/{file_id}": lambda crowd, owner: crowd.upload(owner, "POST", "/files")["id"],
    "avatars/{avatar_id}": lambda crowd, owner: crowd.upload(owner, "PUT", "/users/me/avatar")["avatar_url"][-36:],
    "users/{user_id}": lambda _, owner: owner.id,
}
NAMES = {
    "providers/{name}": "fake",
    "jobs/{key}": "nothing",
    "queues/{queue}": "saq",
    "confirm/{purpose}": "email",
    "static/{name}": "nothing",
    "assets/{file_path}": "nothing",
}
"""What belongs to nobody."""
