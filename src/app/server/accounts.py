"""Accounts, as an operator at the command line manages them: who has the machine needs no other right."""

import secrets

from sqlalchemy.orm import Session

from app.domain.access.models import RoleAssignment
from app.domain.accounts.models import is_named, is_not_closed
from app.domain.accounts.schemas import AccountUpdate, UserRead
from app.domain.accounts.services import AccountService
from app.domain.audit.models import Action
from app.domain.audit.services import AuditService
from app.domain.roles.schemas import AssignmentRead, RoleRead
from app.domain.roles.services import AssignmentService, RoleService
from app.domain.users.models import User
from app.domain.users.services import UserService
from app.lib.db.database import Database
from app.lib.errors import NotFoundError
from app.lib.pagination import Page, PageRequest
from app.lib.passwords import Passwords


class Accounts:
    """Found by the command line in `app.state.accounts`. Addresses are taken in any spelling."""

    def __init__(self, database: Database, passwords: Passwords) -> None:
        self._database = database
        self._passwords = passwords

    def page(self, *, q: str | None, limit: int, offset: int) -> Page[UserRead]:
        """In the order of addresses; `q` looks into addresses and names."""

        def read(session: Session) -> Page[UserRead]:
            AuditService(session).record(Action.USERS_LISTED, details={"q": q, "offset": offset})
            page = PageRequest(limit=limit, offset=offset)
            return AccountService(session).page(is_not_closed(), is_named(q), page=page, sort="email", into=UserRead)

        return self._database.write(read)

    def create(self, *, email: str, first_name: str, last_name: str, is_superuser: bool) -> str:
        """The generated password. Raises EmailTakenError, InvalidInputError."""
        password = secrets.token_urlsafe(16)
        password_hash = self._passwords.hash(password)

        def create(session: Session) -> None:
            account = User(
                email=email,
                password_hash=password_hash,
                first_name=first_name,
                last_name=last_name,
                is_verified=True,
                is_superuser=is_superuser,
            )
            AccountService(session).create_account(account)

        self._database.write(create)
        return password

    def update(self, email: str, changes: AccountUpdate) -> None:
        """Raises NotFoundError, LastAdministratorError."""

        def update(session: Session) -> None:
            AccountService(session).update_account(_find(session, email).id, changes)

        self._database.write(update)

    def reset_password(self, email: str) -> str:
        """The generated password. Raises NotFoundError."""
        password = secrets.token_urlsafe(16)
        self._take_password(email, replacement=self._passwords.hash(password))
        return password

    def take_password(self, email: str) -> None:
        """A link for another one is sent. Raises NotFoundError."""
        self._take_password(email, replacement=None)

    def roles(self) -> list[RoleRead]:
        def read(session: Session) -> list[RoleRead]:
            return [RoleRead.of(role) for role in RoleService(session).get_many()]

        return sorted(self._database.read(read), key=lambda role: role.name)

    def roles_of(self, email: str) -> list[AssignmentRead]:
        """Those that were given to it. Raises NotFoundError."""

        def read(session: Session) -> list[AssignmentRead]:
            given = AssignmentService(session).get_many(RoleAssignment.user_id == _find(session, email).id)
            return [AssignmentRead.of(assignment) for assignment in given]

        return sorted(self._database.read(read), key=lambda role: role.name)

    def grant_role(self, email: str, role: str) -> None:
        """Raises NotFoundError, EverybodysRoleError."""
        self._database.write(lambda session: AssignmentService(session).assign(_find(session, email).id, role, by=None))

    def revoke_role(self, email: str, role: str) -> None:
        """Raises NotFoundError, also when it does not have it; EverybodysRoleError."""
        self._database.write(
            lambda session: AssignmentService(session).withdraw(_find(session, email).id, role, by=None)
        )

    def deactivate(self, email: str) -> None:
        self.update(email, AccountUpdate(is_active=False))

    def make_administrator(self, email: str) -> None:
        self.update(email, AccountUpdate(is_superuser=True))

    def _take_password(self, email: str, *, replacement: str | None) -> None:
        def take(session: Session) -> None:
            AccountService(session).take_password(_find(session, email).id, replacement=replacement)

        self._database.write(take)


def _find(session: Session, email: str) -> User:
    user = UserService(session).find_by_email(email)
    if user is None:
        raise NotFoundError("There is no account with this address.")
    return user
