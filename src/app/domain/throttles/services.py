import hashlib
import math
from collections.abc import Collection, Iterable
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from msgspec import Struct
from sqlalchemy import ColumnElement, DateTime, case, delete, func, literal, or_, select, tuple_
from sqlalchemy.dialects.postgresql import insert

from app.domain.throttles.models import Throttle
from app.domain.users.models import User
from app.lib.db.models import utc_now
from app.lib.db.service import Repository, Service
from app.lib.email_address import canonical_email
from app.lib.errors import InvalidInputError, TooManyRequestsError
from app.lib.rate_limits import network_of
from app.lib.secret_keys import SecretKeys

FADES = timedelta(days=1)
KNOWN = timedelta(days=30)
"""So long after somebody has proved who they are, their network has a count of its own for them."""
TRIES = 100
"""Failures in a row after which there is one try a day (NIST SP 800-63B-4 section 3.2.2)."""
DAY = 24 * 60 * 60
TIME = DateTime(timezone=True)


class Policy(NamedTuple):
    """After `free` failures each one doubles the wait, from one second up to `longest`.

    With `in_a_row`, failures are forgotten when there has been no other for a day, and after `TRIES` of them the
    wait is a day. Without, they are forgotten a day after the first: an office has always somebody who mistypes.
    """

    free: int
    longest: int
    in_a_row: bool


ACCOUNT = Policy(free=5, longest=3600, in_a_row=True)
NETWORK = Policy(free=50, longest=900, in_a_row=False)


class Count(NamedTuple):
    """The key of a row."""

    subject: bytes
    network: bytes = b""


class Attempt(Struct, frozen=True):
    """One try at a secret. Accounts come before networks: so two at once lock rows in the same order.

    `home` is what counts from here on after a success: this account in this network.
    """

    counts: tuple[tuple[Count, Policy], ...]
    home: Count | None = None


class ThrottleService(Service[Throttle]):
    """How often somebody may be wrong: `begin`, look at the secret, then `fail` or `succeed`.

    The last two ask again, under a lock: of many tries at once, no more learn whether they were right than of as
    many in turn; and while a password is hashed, nothing is locked. All raise TooManyRequestsError. After `fail`,
    refuse with an error that says `keeps_writes`.
    """

    class Repo(Repository[Throttle]):
        model_type = Throttle

    repository_type = Repo

    def begin_sign_in(self, *, email: str, address: str, keys: SecretKeys) -> Attempt:
        """At an account, whether it exists or not, from an address.

        Where the account has signed in before, it has a count of its own: strangers elsewhere do not keep its owner
        out. All failures of a network count together, too, whatever accounts they are at.
        """
        network = _network(address, keys)
        return self._begin(_account(email, keys), network, also=((Count(network), NETWORK),))

    def begin_code(self, user_id: UUID, *, address: str, keys: SecretKeys) -> Attempt:
        """At the second factor of somebody who has proved the first, from an address, which may have its own count."""
        return self._begin(_secret(user_id, "codes"), _network(address, keys))

    def begin_password(self, user_id: UUID) -> Attempt:
        """At the current password of somebody who is signed in."""
        return self._begin(_secret(user_id, "password"))

    def fail(self, attempt: Attempt) -> None:
        """Count it. Raises TooManyRequestsError, and counts nothing, when others have used up what was free."""
        now = utc_now()
        for count, policy in attempt.counts:
            if self.session.scalar(_one_more(count, policy, now)) is None:
                self._refuse(count, now)

    def succeed(self, attempt: Attempt) -> None:
        """Forget the failures of the account, not those of its network, and remember where it was."""
        now = utc_now()
        count, _ = attempt.counts[0]
        if count != attempt.home:
            self._clear(count, now)
        if attempt.home and self.session.scalar(_known_here(attempt.home, now)) is None:
            self._refuse(attempt.home, now)

    def forget(self, user: User, *, keys: SecretKeys, address: str | None = None) -> None:
        """After a password reset: nobody has failed, and of all networks only that of `address` is known."""
        subjects = [_account(user.email, keys), _secret(user.id, "password")]
        self.session.execute(delete(Throttle).where(Throttle.subject_hash.in_(subjects)))
        if address is not None:
            self.session.execute(_known_here(Count(subjects[0], _network(address, keys)), utc_now()))

    def remove_expired(self) -> int:
        """Delete a batch of rows that count as none. Returns how many."""
        return self.remove_batch(Throttle.expires_at < utc_now())

    def _begin(self, subject: bytes, network: bytes = b"", also: tuple[tuple[Count, Policy], ...] = ()) -> Attempt:
        now = utc_now()
        anywhere, home = Count(subject), Count(subject, network)
        blocked = self._blocked([anywhere, home, *[count for count, _ in also]], now)
        counts = ((home if home in blocked else anywhere, ACCOUNT), *also)
        _refuse_blocked([blocked.get(count) for count, _ in counts], now)
        return Attempt(counts, home=home if network else None)

    def _blocked(self, counts: Collection[Count], now: datetime) -> dict[Count, datetime | None]:
        """Until when each of them is, of those that there are."""
        key = tuple_(Throttle.subject_hash, Throttle.network_hash)
        found = select(Throttle.subject_hash, Throttle.network_hash, Throttle.blocked_until).where(
            key.in_(counts), Throttle.expires_at > now
        )
        return {Count(subject, network): until for subject, network, until in self.session.execute(found)}

    def _clear(self, count: Count, now: datetime) -> None:
        found = self.session.execute(select(Throttle.blocked_until).where(*_is(count)).with_for_update()).first()
        if found:
            _refuse_blocked(found, now)
            self.session.execute(delete(Throttle).where(*_is(count)))

    def _refuse(self, count: Count, now: datetime) -> None:
        _refuse_blocked(self._blocked([count], now).values(), now)
        raise TooManyRequestsError(retry_after=1)


def _one_more(count: Count, policy: Policy, now: datetime) -> Any:
    """The statement that counts a failure and returns something, unless the row is blocked."""
    is_over = Throttle.expires_at <= now
    failures = case((is_over, 1), else_=Throttle.failures + 1)
    blocked_until = literal(now, TIME) + func.make_interval(0, 0, 0, 0, 0, 0, _wait(failures, policy))
    if count.network:  # how long it stays known, no failure changes
        expires_at: Any = Throttle.expires_at
    elif policy.in_a_row:
        expires_at = func.greatest(Throttle.expires_at, now + FADES, blocked_until + FADES)
    else:
        expires_at = func.greatest(case((is_over, now + FADES), else_=Throttle.expires_at), blocked_until)
    return _upsert(
        count,
        now,
        new={"failures": 1, "expires_at": now if count.network else now + FADES},
        changed={"failures": failures, "blocked_until": blocked_until, "expires_at": expires_at},
    )


def _wait(failures: ColumnElement[int], policy: Policy) -> ColumnElement[float | None]:
    """Seconds after so many failures; NULL while they are free. GREATEST and LEAST of PostgreSQL pass over NULL."""
    doubled = func.least(policy.longest, func.power(2, func.least(failures - policy.free - 1, 20)))
    last = [(failures >= TRIES, literal(DAY))] if policy.in_a_row else []
    return case((failures <= policy.free, None), *last, else_=doubled)


def _known_here(home: Count, now: datetime) -> Any:
    """The statement that makes a network known and returns something, unless the account is blocked there."""
    known: dict[str, Any] = {"failures": 0, "expires_at": now + KNOWN}
    return _upsert(home, now, new=known, changed=known | {"blocked_until": None})


def _upsert(count: Count, now: datetime, *, new: dict[str, Any], changed: dict[str, Any]) -> Any:
    row = insert(Throttle).values(subject_hash=count.subject, network_hash=count.network, **new)
    return row.on_conflict_do_update(
        index_elements=[Throttle.subject_hash, Throttle.network_hash],
        set_=changed | {"updated_at": now},
        where=or_(Throttle.blocked_until.is_(None), Throttle.blocked_until <= now),
    ).returning(Throttle.id)


def _is(count: Count) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return Throttle.subject_hash == count.subject, Throttle.network_hash == count.network


def _refuse_blocked(times: Iterable[datetime | None], now: datetime) -> None:
    if later := [until for until in times if until and until > now]:
        raise TooManyRequestsError(retry_after=math.ceil((max(later) - now).total_seconds()))


def _account(email: str, keys: SecretKeys) -> bytes:
    """All spellings of an address are one account, also when there is none. What is no address is what it is."""
    try:
        name = canonical_email(email)
    except InvalidInputError:
        name = email
    return keys.digest(name, purpose="throttled accounts")


def _network(address: str, keys: SecretKeys) -> bytes:
    return keys.digest(network_of(address), purpose="throttled networks")


def _secret(user_id: UUID, kind: str) -> bytes:
    """An id is no secret, and is in the database anyway."""
    return hashlib.sha256(f"{kind} of {user_id}".encode()).digest()
