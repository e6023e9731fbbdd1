from litestar import Controller
from litestar.params import JSONBody
from litestar.status_codes import HTTP_202_ACCEPTED

from app.domain.registrations.schemas import RegistrationCreate, RegistrationRead
from app.domain.registrations.services import Registration, RegistrationService
from app.lib.access.guards import public
from app.lib.dependencies import AppSettings, PasswordHashing, PasswordRules
from app.lib.routing import post


class RegistrationController(Controller):
    path = "/auth/register"
    tags = ["auth"]
    guards = [public]

    @post(status_code=HTTP_202_ACCEPTED, gate="passwords", rate_limit="sign_in")
    def register(
        self,
        data: JSONBody[RegistrationCreate],
        registrations: RegistrationService,
        passwords: PasswordHashing,
        password_policy: PasswordRules,
        settings: AppSettings,
    ) -> RegistrationRead:
        """Make an account."""
        password_policy.check(data.password, email=data.email, names=(data.first_name, data.last_name))
        registration = Registration(
            password_hash=passwords.hash(data.password),
            first_name=data.first_name,
            last_name=data.last_name,
            phone=data.phone,
        )
        registrations.register(data.email, registration)
        return RegistrationRead(email=data.email, verification_required=settings.require_verified_email)
