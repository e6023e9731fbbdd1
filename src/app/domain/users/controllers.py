from litestar import Controller
from litestar.params import JSONBody
from litestar.status_codes import HTTP_202_ACCEPTED

from app.domain.users.models import User
from app.domain.users.schemas import RegistrationCreate, RegistrationRead, UserRead, UserUpdate
from app.domain.users.services import UserService
from app.lib.access import CurrentUser, authenticated, public
from app.lib.dependencies import AppSettings, PasswordHashing
from app.lib.routing import get, patch, post


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

    @get()
    def get_me(self, users: UserService, me: CurrentUser) -> UserRead:
        """Show my account."""
        return UserRead.of(users.get_one(User.id == me.id))

    @patch()
    def update_me(self, data: JSONBody[UserUpdate], users: UserService, me: CurrentUser) -> UserRead:
        """Change my name or telephone number."""
        return UserRead.of(users.apply(users.get_one(User.id == me.id), data))
