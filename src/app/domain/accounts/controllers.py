from typing import Annotated
from uuid import UUID

from litestar import Controller
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter
from litestar.status_codes import HTTP_200_OK, HTTP_202_ACCEPTED, HTTP_204_NO_CONTENT
from msgspec import UNSET
from sqlalchemy import ColumnElement

from app.domain.access.models import Permission
from app.domain.accounts.models import is_named, is_not_closed
from app.domain.accounts.schemas import (
    AccountCreate,
    AccountUpdate,
    ConfirmationRequestCreate,
    ConfirmationRequestRead,
    ConfirmedRead,
    EmailChangeCreate,
    PasswordResetCreate,
    PasswordUpdate,
    TokenCreate,
    UserRead,
    UserSort,
    UserUpdate,
)
from app.domain.accounts.services import AccountService
from app.domain.audit.models import Action
from app.domain.audit.services import AuditService
from app.domain.registrations.services import RegistrationService
from app.domain.users.models import User
from app.domain.users.services import UserService
from app.lib.access.control import Access
from app.lib.access.guards import (
    CurrentUser,
    authenticated,
    public,
    recently_authenticated,
    refuse_old_sign_in,
    requires,
)
from app.lib.dependencies import Keys, LinkReading, PasswordHashing, PasswordRules, TokenIssuing
from app.lib.pagination import Page, PageQuery
from app.lib.routing import delete, get, patch, post, put
from app.lib.sign_ins import AnyRequest, device_of

Which = Annotated[bool | None, QueryParameter(description="Only those of which this is so.")]


class ConfirmationController(Controller):
    """Asking for links, and what they lead to. Nobody is signed in by one."""

    path = "/auth"
    tags = ["auth"]
    guards = [public]

    @post("/verification", status_code=HTTP_202_ACCEPTED, rate_limit="sign_in")
    def request_verification(
        self, data: JSONBody[ConfirmationRequestCreate], registrations: RegistrationService
    ) -> ConfirmationRequestRead:
        """Ask for a new link that verifies my address."""
        registrations.request_verification(data.email)
        return ConfirmationRequestRead(email=data.email)

    @post("/verification/confirm", status_code=HTTP_200_OK, rate_limit="sign_in")
    def confirm_verification(
        self, data: JSONBody[TokenCreate], registrations: RegistrationService, link_tokens: LinkReading
    ) -> ConfirmedRead:
        """Verify my address."""
        return ConfirmedRead.of(registrations.verify(data.token, link_tokens))

    @post("/password/forgot", status_code=HTTP_202_ACCEPTED, rate_limit="sign_in")
    def request_password_reset(
        self, data: JSONBody[ConfirmationRequestCreate], accounts: AccountService
    ) -> ConfirmationRequestRead:
        """Ask for a link with which I choose a new password."""
        accounts.request_password_reset(data.email)
        return ConfirmationRequestRead(email=data.email)

    @post("/password/reset", status_code=HTTP_200_OK, gate="passwords", rate_limit="sign_in")
    def reset_password(
        self,
        data: JSONBody[PasswordResetCreate],
        request: AnyRequest,
        accounts: AccountService,
        passwords: PasswordHashing,
        password_policy: PasswordRules,
        link_tokens: LinkReading,
        keys: Keys,
    ) -> ConfirmedRead:
        """Choose a new password. It ends all sessions, and signs nobody in."""
        user = accounts.reset_password(
            data.token,
            data.password,
            link_tokens=link_tokens,
            policy=password_policy,
            passwords=passwords,
            keys=keys,
            address=device_of(request).address,
        )
        return ConfirmedRead.of(user)

    @post("/email/confirm", status_code=HTTP_200_OK, rate_limit="sign_in")
    def confirm_email_change(
        self, data: JSONBody[TokenCreate], accounts: AccountService, link_tokens: LinkReading
    ) -> ConfirmedRead:
        """Make the new address that of my account."""
        return ConfirmedRead.of(accounts.change_email(data.token, link_tokens))

    @post("/email/undo", status_code=HTTP_200_OK, rate_limit="sign_in")
    def undo_email_change(
        self, data: JSONBody[TokenCreate], accounts: AccountService, link_tokens: LinkReading
    ) -> ConfirmedRead:
        """Take the old address back.

        All sessions and the password end; a link for a new password goes to the old address.
        """
        return ConfirmedRead.of(accounts.undo_email_change(data.token, link_tokens))


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
        return UserRead.of(users.change(users.get_one(User.id == me.id), data))

    @post("/email", status_code=HTTP_202_ACCEPTED, gate="passwords", rate_limit="sign_in")
    def request_email_change(
        self,
        data: JSONBody[EmailChangeCreate],
        accounts: AccountService,
        passwords: PasswordHashing,
        me: CurrentUser,
    ) -> ConfirmationRequestRead:
        """Ask for a link that makes another address mine.

        It goes to the new address. The old one stays until it is used.
        """
        accounts.request_email_change(me, data.email, password=data.password, passwords=passwords)
        return ConfirmationRequestRead(email=data.email)

    @put("/password", status_code=HTTP_204_NO_CONTENT, gate="passwords", rate_limit="sign_in")
    def change_my_password(
        self,
        data: JSONBody[PasswordUpdate],
        accounts: AccountService,
        passwords: PasswordHashing,
        password_policy: PasswordRules,
        me: CurrentUser,
    ) -> None:
        """Change my password. It ends all my other sessions."""
        accounts.change_password(
            me, current=data.current_password, new=data.password, policy=password_policy, passwords=passwords
        )

    @delete(guards=[recently_authenticated])
    def delete_me(self, accounts: AccountService, me: CurrentUser, tokens: TokenIssuing) -> None:
        """Delete my account and all that is mine."""
        accounts.leave(me, token_lifetime=tokens.lifetime)


class UserController(Controller):
    """Accounts, as administrators see them. No API key makes administrators, moves an address or deletes anybody."""

    path = "/users"
    tags = ["users"]
    opt = {"scope": "users"}

    @get(guards=[requires(Permission.USERS_READ)], records=True)
    def list_users(
        self,
        accounts: AccountService,
        audit: AuditService,
        access: Access,
        me: CurrentUser,
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
        where += [is_not_closed(), access.where(me, Permission.USERS_READ, User)]
        found = accounts.page(*where, is_named(page.q), page=page, sort=sort, into=UserRead)
        audit.record(Action.USERS_LISTED, details={"q": page.q, "offset": page.offset, "shown": len(found.items)})
        return found

    @post(guards=[requires(Permission.USERS_CREATE)], gate="passwords")
    def create_user(
        self,
        data: JSONBody[AccountCreate],
        accounts: AccountService,
        passwords: PasswordHashing,
        password_policy: PasswordRules,
        me: CurrentUser,
    ) -> UserRead:
        """Make an account.

        Without a password, its owner is asked by mail to choose one. A superuser is made by a superuser, with a recent
        sign-in.
        """
        if data.is_superuser:
            refuse_old_sign_in(me)
        if data.password is not None:
            password_policy.check(data.password, email=data.email, names=(data.first_name, data.last_name))
        account = User(
            email=data.email,
            password_hash=None if data.password is None else passwords.hash(data.password),
            first_name=data.first_name,
            last_name=data.last_name,
            phone=data.phone,
            is_verified=data.is_verified,
            is_superuser=data.is_superuser,
        )
        return UserRead.of(accounts.create_account(account, by=me))

    @get("/{user_id:uuid}", guards=[requires(Permission.USERS_READ)], records=True)
    def get_user(
        self, user_id: FromPath[UUID], accounts: AccountService, audit: AuditService, access: Access, me: CurrentUser
    ) -> UserRead:
        """Show an account."""
        is_visible = access.where(me, Permission.USERS_READ, User)
        user = accounts.get_one(User.id == user_id, is_not_closed(), is_visible)
        audit.record(Action.USER_READ, subject=user)
        return UserRead.of(user)

    @patch("/{user_id:uuid}", guards=[requires(Permission.USERS_UPDATE)])
    def update_user(
        self, user_id: FromPath[UUID], data: JSONBody[AccountUpdate], accounts: AccountService, me: CurrentUser
    ) -> UserRead:
        """Change an account. Fields that are left out stay as they are.

        Who is deactivated, no longer an administrator, or gets a new address, is signed out everywhere at once and
        loses the API keys; with a new address, also the linked providers. `email` and `is_superuser` need a recent
        sign-in, and so does whether a superuser is active. You must hold all that the account may do.
        """
        if data.email is not UNSET or data.is_superuser is not UNSET:
            refuse_old_sign_in(me)
        user = accounts.update_account(user_id, data, by=me)
        if user.is_superuser and data.is_active is not UNSET:
            refuse_old_sign_in(me)
        return UserRead.of(user)

    @delete("/{user_id:uuid}", guards=[requires(Permission.USERS_DELETE), recently_authenticated], scope=None)
    def delete_user(
        self, user_id: FromPath[UUID], accounts: AccountService, me: CurrentUser, tokens: TokenIssuing
    ) -> None:
        """Delete an account, with all that belongs to it. Needs a recent sign-in."""
        accounts.remove_account(user_id, by=me, token_lifetime=tokens.lifetime)


class UserAccessController(Controller):
    """It names no scope: no API key takes anybody's access away."""

    path = "/users/{user_id:uuid}"
    tags = ["users"]
    guards = [requires(Permission.USERS_UPDATE)]

    @delete("/sessions")
    def end_user_sessions(self, user_id: FromPath[UUID], accounts: AccountService, me: CurrentUser) -> None:
        """Sign somebody out everywhere. API keys go on."""
        accounts.sign_out(user_id, by=me)

    @delete("/totp", guards=[recently_authenticated])
    def delete_user_totp(self, user_id: FromPath[UUID], accounts: AccountService, me: CurrentUser) -> None:
        """Let somebody who has lost their app and their codes sign in without. They are told by mail."""
        accounts.take_second_factor(user_id, by=me)

    @post("/password-reset", status_code=HTTP_202_ACCEPTED)
    def reset_user_password(self, user_id: FromPath[UUID], accounts: AccountService, me: CurrentUser) -> None:
        """Take somebody's password away, with all sessions, API keys and linked providers.

        They are asked by mail to choose another. The second factor stays.
        """
        accounts.take_password(user_id, by=me)
