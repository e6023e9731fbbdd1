from typing import Annotated
from uuid import UUID

from litestar import Controller
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter
from litestar.status_codes import HTTP_202_ACCEPTED
from msgspec import UNSET
from sqlalchemy import ColumnElement

from app.domain.users.models import User
from app.domain.users.schemas import (
    AccountCreate,
    AccountUpdate,
    RegistrationCreate,
    RegistrationRead,
    UserRead,
    UserSort,
    UserUpdate,
)
from app.domain.users.services import UserService
from app.lib.access import (
    CurrentUser,
    administrator,
    authenticated,
    public,
    recently_authenticated,
    refuse_old_sign_in,
)
from app.lib.dependencies import AppSettings, PasswordHashing
from app.lib.pagination import Page, PageQuery, contains
from app.lib.routing import delete, get, patch, post

Which = Annotated[bool | None, QueryParameter(description="Only those of which this is so.")]


class RegistrationController(Controller):
    path = "/auth/register"
    tags = ["auth"]
    guards = [public]

    @post(status_code=HTTP_202_ACCEPTED, gate="passwords", rate_limit="sign_in")
    def register(
        self,
        data: JSONBody[RegistrationCreate],
        users: UserService,
        passwords: PasswordHashing,
        settings: AppSettings,
    ) -> RegistrationRead:
        """Make an account."""
        users.register(
            email=data.email,
            password_hash=passwords.hash(data.password),
            first_name=data.first_name,
            last_name=data.last_name,
            phone=data.phone,
        )
        return RegistrationRead(email=data.email, verification_required=settings.require_verified_email)


class MeController(Controller):
    path = "/users/me"
    tags = ["users"]
    guards = [authenticated]

    @get(scope="profile")
    def get_me(self, users: UserService, me: CurrentUser) -> UserRead:
        """Show my account."""
        return UserRead.of(users.get_one(User.id == me.id))

    @patch()
    def update_me(self, data: JSONBody[UserUpdate], users: UserService, me: CurrentUser) -> UserRead:
        """Change my name or telephone number."""
        return UserRead.of(users.apply(users.get_one(User.id == me.id), data))


class UserController(Controller):
    """Accounts, as administrators see them. No API key makes administrators, moves an address or deletes anybody."""

    path = "/users"
    tags = ["users"]
    opt = {"scope": "users"}
    guards = [administrator]

    @get()
    def list_users(
        self,
        users: UserService,
        page: PageQuery,
        is_active: Which = None,
        is_verified: Which = None,
        is_superuser: Which = None,
        sort: FromQuery[UserSort] = "-created_at",
    ) -> Page[UserRead]:
        """List accounts.

        `q` looks into addresses and names. Those who have never signed in come last when sorted by `last_login`, and
        that order has no cursor. A time without an offset is taken as UTC.
        """
        flags = {User.is_active: is_active, User.is_verified: is_verified, User.is_superuser: is_superuser}
        where: list[ColumnElement[bool]] = [flag.is_(value) for flag, value in flags.items() if value is not None]
        text = contains(page.q, User.email, User.first_name + " " + User.last_name)
        return users.page(*where, text, page=page, sort=sort, into=UserRead)

    @post(gate="passwords")
    def create_user(
        self, data: JSONBody[AccountCreate], users: UserService, passwords: PasswordHashing, me: CurrentUser
    ) -> UserRead:
        """Make an account.

        Without a password, its owner is asked by mail to choose one. An administrator is made by a recent sign-in only.
        """
        if data.is_superuser:
            refuse_old_sign_in(me)
        account = User(
            email=data.email,
            password_hash=None if data.password is None else passwords.hash(data.password),
            first_name=data.first_name,
            last_name=data.last_name,
            phone=data.phone,
            is_verified=data.is_verified,
            is_superuser=data.is_superuser,
        )
        return UserRead.of(users.create_account(account, by=me.id))

    @get("/{user_id:uuid}")
    def get_user(self, user_id: FromPath[UUID], users: UserService) -> UserRead:
        """Show an account."""
        return UserRead.of(users.get_one(User.id == user_id))

    @patch("/{user_id:uuid}")
    def update_user(
        self, user_id: FromPath[UUID], data: JSONBody[AccountUpdate], users: UserService, me: CurrentUser
    ) -> UserRead:
        """Change an account. Fields that are left out stay as they are.

        Who is deactivated, no longer an administrator, or gets a new address, is signed out everywhere at once and
        loses the API keys. `email` and `is_superuser` need a recent sign-in.
        """
        if data.email is not UNSET or data.is_superuser is not UNSET:
            refuse_old_sign_in(me)
        return UserRead.of(users.update_account(user_id, data, by=me.id))

    @delete("/{user_id:uuid}", guards=[recently_authenticated], scope=None)
    def delete_user(self, user_id: FromPath[UUID], users: UserService, me: CurrentUser) -> None:
        """Delete an account, with all that belongs to it. Needs a recent sign-in."""
        users.remove_account(user_id, by=me.id)


class UserAccessController(Controller):
    """It names no scope: no API key takes anybody's access away."""

    path = "/users/{user_id:uuid}"
    tags = ["users"]
    guards = [administrator]

    @delete("/sessions")
    def end_user_sessions(self, user_id: FromPath[UUID], users: UserService) -> None:
        """Sign somebody out everywhere. API keys go on."""
        users.sign_out(user_id)

    @post("/password-reset", status_code=HTTP_202_ACCEPTED)
    def reset_user_password(self, user_id: FromPath[UUID], users: UserService, me: CurrentUser) -> None:
        """Take somebody's password away, with all sessions and API keys, and ask them by mail to choose another."""
        users.reset_password(user_id, by=me.id)
