from datetime import datetime

from sqlalchemy import LargeBinary, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.lib.db.models import Model


class Throttle(Model):
    """Failures to prove who one is: of one account, of one network, or of one account in one network.

    The latter exists where the account has signed in from that network. Both are digests, `network_hash` is empty
    when any network counts. An expired row counts as none.
    """

    __tablename__ = "throttles"
    __table_args__ = (UniqueConstraint("subject_hash", "network_hash"),)

    subject_hash: Mapped[bytes] = mapped_column(LargeBinary(32))
    network_hash: Mapped[bytes] = mapped_column(LargeBinary(32), default=b"")
    failures: Mapped[int] = mapped_column(default=0)
    blocked_until: Mapped[datetime | None] = mapped_column(default=None)
    expires_at: Mapped[datetime] = mapped_column(index=True)
