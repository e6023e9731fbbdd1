from datetime import date
from uuid import UUID

from sqlalchemy.orm import Session

from app.domain.users.models import User
from app.lib.jobs.declaration import job
from app.lib.mail.mailer import Mailer


@job()
def send_welcome_email(session: Session, mailer: Mailer, *, user_id: UUID) -> None:
    """Greet somebody whose address is new here."""
    if user := session.get(User, user_id):
        mailer.send("users/welcome", to=user.email, name=_known_name(user), key=str(user_id))


@job()
def send_registration_notice(session: Session, mailer: Mailer, *, user_id: UUID, day: date) -> None:
    """Tell somebody who has an account that their address was used to register, which the one who did is not told."""
    if user := session.get(User, user_id):
        shown = f"{day.day} {day:%B %Y}"
        mailer.send(
            "users/registration_notice", to=user.email, name=_known_name(user), key=f"{user_id} {day}", day=shown
        )


def _known_name(user: User) -> str:
    """Empty before the address is verified: anybody can have typed the name, to say something in our mail."""
    return f"{user.first_name} {user.last_name}" if user.is_verified else ""
