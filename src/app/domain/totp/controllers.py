import segno
from litestar import Controller
from litestar.params import JSONBody
from litestar.status_codes import HTTP_200_OK, HTTP_201_CREATED

from app.domain.totp.models import Authenticator
from app.domain.totp.schemas import RecoveryCodesRead, TotpConfirmationCreate, TotpEnrolmentRead, TotpRead
from app.domain.totp.services import TotpService, otpauth_uri
from app.domain.users.services import UserService
from app.lib.access.guards import CurrentUser, authenticated, recently_authenticated
from app.lib.dependencies import AppSettings, Keys
from app.lib.routing import delete, get, post


class MyTotpController(Controller):
    path = "/users/me/totp"
    tags = ["two-factor"]
    guards = [authenticated]

    @get()
    def get_my_totp(self, totp: TotpService, me: CurrentUser) -> TotpRead:
        """Show whether signing in takes a second factor."""
        found = totp.get_one_or_none(Authenticator.user_id == me.id)
        confirmed_at = found.confirmed_at if found else None
        return TotpRead(
            is_enabled=confirmed_at is not None,
            confirmed_at=confirmed_at,
            recovery_codes_left=totp.recovery_codes_left(me.id),
        )

    @post(status_code=HTTP_201_CREATED, guards=[recently_authenticated])
    def create_my_totp(
        self, totp: TotpService, users: UserService, keys: Keys, settings: AppSettings, me: CurrentUser
    ) -> TotpEnrolmentRead:
        """Make a secret for an authenticator app.

        Nothing changes before it is confirmed. It replaces one that was not.
        """
        secret = totp.enrol(me.id, keys=keys)
        account = users.get_one(id=me.id).email
        uri = otpauth_uri(secret, account=account, issuer=settings.project_name)
        return TotpEnrolmentRead(secret=secret, otpauth_uri=uri, qr_svg=segno.make_qr(uri).svg_inline(scale=4))

    @post("/confirm", status_code=HTTP_200_OK, guards=[recently_authenticated])
    def confirm_my_totp(
        self, data: JSONBody[TotpConfirmationCreate], totp: TotpService, keys: Keys, me: CurrentUser
    ) -> RecoveryCodesRead:
        """Enable the second factor with a first code of the app.

        Answers the recovery codes, once. All other sessions of the account end.
        """
        return RecoveryCodesRead(recovery_codes=totp.confirm(me, data.totp, keys=keys))

    @delete(guards=[recently_authenticated])
    def delete_my_totp(self, totp: TotpService, me: CurrentUser) -> None:
        """Sign in with the password alone again."""
        totp.disable(me.id)

    @post("/recovery-codes", status_code=HTTP_201_CREATED, guards=[recently_authenticated])
    def create_my_recovery_codes(self, totp: TotpService, me: CurrentUser) -> RecoveryCodesRead:
        """Make new recovery codes, shown once. The old ones stop working."""
        return RecoveryCodesRead(recovery_codes=totp.replace_recovery_codes(me.id))
