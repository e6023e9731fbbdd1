from datetime import datetime
from uuid import UUID

from sqlalchemy.orm import Session

from app.domain.users.models import User
from app.lib.jobs.declaration import job
from app.lib.mail.mailer import Mailer
from app.lib.mail.wording import time_of


@job(retries=10, retry_delay=30)
def send_totp_notice(session: Session, mailer: Mailer, *, user_id: UUID, is_enabled: bool, at_time: datetime) -> None:
    """Tell somebody that two-factor authentication was enabled or disabled: it may not have been them (ASVS 6.3.7)."""
    if user := session.get(User, user_id):
        mail = "totp/enabled" if is_enabled else "totp/disabled"
        mailer.send(mail, to=user.email, name=user.known_name, key=f"{user_id} {at_time}", time=time_of(at_time))


@job(retries=10, retry_delay=30)
def send_recovery_codes_notice(session: Session, mailer: Mailer, *, user_id: UUID, at_time: datetime) -> None:
    """Tell somebody that they have new recovery codes."""
    if user := session.get(User, user_id):
        key, time = f"{user_id} {at_time}", time_of(at_time)
        mailer.send("totp/recovery_codes_replaced", to=user.email, name=user.known_name, key=key, time=time)


@job(retries=10, retry_delay=30)
def send_recovery_code_notice(session: Session, mailer: Mailer, *, user_id: UUID, code_id: UUID, left: int) -> None:
    """Tell somebody that one of their recovery codes was used, and how many are left."""
    if user := session.get(User, user_id):
        mailer.send("totp/recovery_code_used", to=user.email, name=user.known_name, key=str(code_id), left=left)
