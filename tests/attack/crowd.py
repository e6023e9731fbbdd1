"""Accounts in numbers, with tokens and belongings: written into the database, for signing up takes its time."""

import re
from collections.abc import Callable
from typing import Any, NamedTuple
from uuid import UUID, uuid4

from sqlalchemy import create_engine, delete, select
from sqlalchemy.orm import Session

from app.domain.access.models import PermissionGrant, Role, RoleAssignment, RoleParent
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


class Person(NamedTuple):
    id: UUID
    email: str
    token: str
    secret: str
    """Their last name, and in the text of whatever is theirs."""


class Crowd:
    def __init__(self, keel: Keel) -> None:
        self.keel = keel
        self._engine = create_engine(keel.url, pool_size=1)
        settings = Settings(_env_file=None, app_env="test", secret_key=SECRET_KEY, public_url="http://keel.test")
        self._tokens = access_tokens(settings)
        [stored] = keel.rows("SELECT id, password_hash FROM users WHERE email = :email", email=keel.sign_up())
        self._password_hash = stored.password_hash
        self._ids, self._roles = [stored.id], list[UUID]()

    def people(self, number: int, *, role: str | None = None, is_superuser: bool = False) -> list[Person]:
        """They have the password of every account that a test makes, and have signed in just now."""
        users = UserFactory.batch(number, password_hash=self._password_hash, is_superuser=is_superuser)
        for user in users:
            user.last_name = f"secret{uuid4().hex}"
        sessions = [UserSessionFactory.build(user_id=user.id) for user in users]
        with Session(self._engine, expire_on_commit=False) as session, session.begin():
            session.add_all(users)
            session.flush()
            session.add_all(sessions)
            if role:
                role_id = self._role_id(role)
                session.add_all([RoleAssignment(user_id=user.id, role_id=role_id) for user in users])
                PolicyService(session).begin_change()
        self._ids += [user.id for user in users]
        return [
            Person(user.id, user.email, self._tokens.issue(principal_of(row, user)), user.last_name)
            for user, row in zip(users, sessions, strict=True)
        ]

    def key_of(self, owner: Person, *scopes: str) -> str:
        key = new_api_key()
        self.store(ApiKeyFactory.build(user_id=owner.id, scopes=list(scopes), key_hash=hash_of(key)))
        return key

    def path(self, template: str, owner: Person, made: dict[str, str]) -> str:
        """With things of the owner in it. `made`: what there is, by the template up to it; what is new is added."""
        values: list[str] = []

        def fill(place: re.Match[str]) -> str:
            up_to_here = template[: place.end()]
            if up_to_here not in made:
                made[up_to_here] = self._make(place[0], up_to_here, owner, *values[-1:])
            values.append(made[up_to_here])
            return f"{place[1]}/{values[-1]}"

        return re.sub(r"([\w-]+)/\{\w+\}", fill, template)

    def _make(self, place: str, up_to_here: str, owner: Person, within: str = "") -> str:
        if place in NAMES:
            return NAMES[place]
        makers = [maker for end, maker in BELONGINGS.items() if up_to_here.endswith(f"/{end}")]
        assert makers, f"say in tests/attack/crowd.py, in BELONGINGS or NAMES, what stands at {place}"
        made = makers[0](self, owner, within)
        return str(made.id) if isinstance(made, Model) else str(made)

    def role(self, *, held_by: Person | None = None, parent_of: str | None = None) -> str:
        """A new one, with which nothing may be done."""
        role = Role(name=f"role-{uuid4().hex}")
        self.store(role)
        self._roles.append(role.id)
        if held_by:
            self.store(RoleAssignment(user_id=held_by.id, role_id=role.id))
        if parent_of:
            self.store(RoleParent(role_id=self._role_id(parent_of), parent_id=role.id))
        return role.name

    def grant_to_role(self, name: str) -> Model:
        return self.store(PermissionGrant(role_id=self._role_id(name), **GRANT))

    def grant_to_user(self, user: Person) -> Model:
        return self.store(PermissionGrant(user_id=user.id, **GRANT))

    def upload(self, owner: Person, method: str, path: str) -> dict[str, Any]:
        with self.keel.client(token=owner.token) as client:
            answer = client.request(method, path, files={"file": (f"{owner.secret}.png", picture())})
        made: dict[str, Any] = answer.raise_for_status().json()
        return made

    def store(self, row: Model) -> Model:
        with Session(self._engine, expire_on_commit=False) as session, session.begin():
            session.add(row)
        return row

    def _role_id(self, name: str) -> UUID:
        with Session(self._engine) as session:
            return session.scalars(select(Role.id).where(Role.name == name)).one()

    def leave(self) -> None:
        """Others count the administrators."""
        with Session(self._engine) as session, session.begin():
            session.execute(delete(User).where(User.id.in_(self._ids)))
            session.execute(delete(Role).where(Role.id.in_(self._roles)))
            PolicyService(session).begin_change()
        self._engine.dispose()


Maker = Callable[[Crowd, Person, str], object]
"""The last one is what stands at the place before."""
GRANT: dict[str, Any] = {"resource": "posts", "action": "update", "rule": "not r.obj.published"}
BELONGINGS: dict[str, Maker] = {
    "items/{item_id}": lambda crowd, owner, _: crowd.store(ItemFactory.build(owner_id=owner.id, title=owner.secret)),
    "posts/{post_id}": lambda crowd, owner, _: crowd.store(PostFactory.build(owner_id=owner.id, title=owner.secret)),
    "sessions/{session_id}": lambda crowd, owner, _: crowd.store(
        UserSessionFactory.build(user_id=owner.id, user_agent=owner.secret)
    ),
    "api-keys/{api_key_id}": lambda crowd, owner, _: crowd.store(
        ApiKeyFactory.build(user_id=owner.id, name=owner.secret)
    ),
    "identities/{identity_id}": lambda crowd, owner, _: crowd.store(
        IdentityFactory.build(user_id=owner.id, email=f"{owner.secret}@example.com")
    ),
    "files/{file_id}": lambda crowd, owner, _: crowd.upload(owner, "POST", "/files")["id"],
    "avatars/{avatar_id}": lambda crowd, owner, _: crowd.upload(owner, "PUT", "/users/me/avatar")["avatar_url"][-36:],
    "users/{user_id}": lambda _, owner, __: owner.id,
    "users/{user_id}/permissions/{permission_id}": lambda crowd, owner, _: crowd.grant_to_user(owner),
    "users/{user_id}/roles/{role}": lambda crowd, owner, _: crowd.role(held_by=owner),
    "roles/{name}": lambda crowd, *_: crowd.role(),
    "roles/{name}/permissions/{permission_id}": lambda crowd, _, role: crowd.grant_to_role(role),
    "roles/{name}/parents/{parent}": lambda crowd, _, role: crowd.role(parent_of=role),
}
"""What owners own, by the end of the path that leads to it."""
NAMES = {
    "providers/{name}": "fake",
    "jobs/{key}": "nothing",
    "queues/{queue}": "saq",
    "confirm/{purpose}": "email",
    "static/{name}": "nothing",
    "assets/{file_path}": "nothing",
}
"""What belongs to nobody."""
