from uuid import UUID

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from uuid_utils.compat import uuid7

from app.domain.throttles.services import ThrottleService
from app.domain.totp.errors import TotpRequiredError, WrongCodeError
from app.domain.totp.services import TotpService
from app.domain.users.errors import InvalidCredentialsError, WrongPasswordError
from app.domain.users.jobs import send_registration_notice, send_welcome_email
from app.domain.users.models import User
from app.lib.db.models import utc_now
from app.lib.db.service import Repository, Service
from app.lib.email_address import canonical_email
from app.lib.errors import InvalidInputError
from app.lib.jobs.broker import enqueue
from app.lib.passwords import Passwords
from app.lib.secret_keys import SecretKeys


class UserService(Service[User]):
    class Repo(Repository[User]):
        model_type = User

    repository_type = Repo

    def register(self, *, email: str, password_hash: str, first_name: str, last_name: str, phone: str | None) -> None:
        """Make an account unless the address has one: one statement, so that two at once make one account.

        The owner of the address gets a mail, which says which it was. Both ways take the same statements, so that
        the time tells nothing either (ASVS 6.3.8).
        """
        address, new_id = canonical_email(email), uuid7()
        account = insert(User).values(
            id=new_id,
            email=address,
            password_hash=password_hash,
            first_name=first_name,
            last_name=last_name,
            phone=phone,
        )
        self.session.execute(account.on_conflict_do_nothing(index_elements=[User.email]))
        user_id = self.session.scalar(select(User.id).where(User.email == address))
        if user_id == new_id:
            enqueue(self.session, send_welcome_email, user_id=new_id)
        elif user_id:
            self._notify_of_registration(user_id)

    def authenticate(
        self,
        *,
        email: str,
        password: str,
        totp: str | None,
        address: str,
        passwords: Passwords,
        keys: SecretKeys,
        must_be_verified: bool,
    ) -> User:
        """The user with this password and, where they have a second factor, this code of it.

        Raises InvalidCredentialsError, in the same time, whatever is wrong; TotpRequiredError when all but the code
        is right and there is none; TooManyRequestsError after several failures, whether there is an account or not.
        """
        throttles = ThrottleService(self.session)
        attempt = throttles.begin_sign_in(email=email, address=address, keys=keys)
        user = self.find_by_email(email)
        is_right = passwords.verify(password, user.password_hash if user else None)
        if user is None or not is_right or not user.is_active or (must_be_verified and not user.is_verified):
            throttles.fail(attempt)
            raise InvalidCredentialsError
        try:
            self._ask_second_factor(user, totp, address=address, keys=keys)
        except WrongCodeError as error:
            throttles.fail(attempt)
            raise InvalidCredentialsError from error
        throttles.succeed(attempt)
        if user.password_hash and passwords.needs_rehash(user.password_hash):
            user.password_hash = passwords.hash(password)
        return user

    def verify_password(self, user_id: UUID, password: str, *, passwords: Passwords, field: str = "password") -> User:
        """The user, who has just proved to be it.

        Raises WrongPasswordError, also when they have no password, and TooManyRequestsError after several of those.
        """
        throttles = ThrottleService(self.session)
        attempt = throttles.begin_password(user_id)
        user = self.get_one(User.id == user_id)
        if not passwords.verify(password, user.password_hash):
            throttles.fail(attempt)
            raise WrongPasswordError("This is not your password.", field=field)
        throttles.succeed(attempt)
        return user

    def find_by_email(self, email: str) -> User | None:
        """None also for text that is no address at all."""
        try:
            return self.get_one_or_none(User.email == canonical_email(email))
        except InvalidInputError:
            return None

    def has_administrator(self) -> bool:
        return self.exists(User.is_superuser.is_(True), User.is_active.is_(True))

    def create_administrator(self, *, email: str, password_hash: str) -> User:
        """Raises IntegrityError when the address has an account."""
        return self.create(
            User(
                email=canonical_email(email),
                password_hash=password_hash,
                first_name="Keel",
                last_name="Administrator",
                is_verified=True,
                is_superuser=True,
            )
        )

    def _ask_second_factor(self, user: User, code: str | None, *, address: str, keys: SecretKeys) -> None:
        second_factor = TotpService(self.session)
        if not second_factor.is_enabled(user.id):
            return
        if code is None:
            raise TotpRequiredError
        second_factor.verify(user.id, code, address=address, keys=keys)

    def _notify_of_registration(self, user_id: UUID) -> None:
        """Once a day at most, whoever tries how often."""
        day = utc_now().date()
        key = f"registration-notice:{user_id}:{day}"
        enqueue(self.session, send_registration_notice, key=key, once=True, user_id=user_id, day=day)
