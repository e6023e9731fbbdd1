from datetime import date
from uuid import UUID

from sqlalchemy.orm import Session

from app.domain.users.models import User
from app.lib.jobs.declaration import job
from app.lib.mail.mailer import Mailer
from app.lib.mail.wording import day_of


@job(retries=10, retry_delay=30)
def send_registration_notice(session: Session, mailer: Mailer, *, user_id: UUID, day: date) -> None:
    """Tell somebody who has an account that their address was used to register, which the one who did is not told."""
    if user := session.get(User, user_id):
        key, shown = f"{user_id} {day}", day_of(day)
        mailer.send("registrations/registration_notice", to=user.email, name=user.known_name, key=key, day=shown)
