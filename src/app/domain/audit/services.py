import functools
import math
import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID

import msgspec
from msgspec import UNSET, Struct
from sqlalchemy import func, select, true
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from app.domain.audit.models import Action, AuditEvent, Outcome
from app.lib.db.models import Model, utc_now
from app.lib.db.service import Repository, Service
from app.lib.db.unit_of_work import AnySession, after_commit, after_rollback
from app.lib.origin import current_origin

Subject = Model | tuple[str, object]
"""A row, or what kind of thing it is and its id."""
MASK = "***"
SECRET = re.compile("password|secret|token|hash")
"""Names of fields whose text is never written down."""
LONGEST_TEXT = 500
LONGEST_LIST = 100
NO_TEXT = re.compile(r"[\x00\ud800-\udfff]")
"""What PostgreSQL cannot store: NUL, and half a surrogate pair."""


class AuditService(Service[AuditEvent]):
    class Repo(Repository[AuditEvent]):
        model_type = AuditEvent

    repository_type = Repo

    def record(
        self,
        action: Action,
        *,
        subject: Subject | None = None,
        outcome: Outcome = Outcome.SUCCESS,
        changes: Mapping[str, Any] | None = None,
        permission: str | None = None,
        attributes: Mapping[str, Any] | None = None,
        details: Mapping[str, Any] | None = None,
        actor_id: UUID | None = None,
        count: int = 1,
    ) -> None:
        """Write it down, in this transaction. If that rolls back, it is written after it, as a failure.

        Who did it, from where, is known (`lib.origin`); `actor_id` is for those who have only now proved who they
        are. `permission` and `attributes` of an object are what a decision depended on, for `access diff` to repeat
        it. Of `changes` see `differences`. Secrets are masked, and text is made storable and shortened.
        """
        origin = current_origin()
        subject_type, subject_id = _named(subject)
        event = {
            "id": uuid7(),
            "created_at": utc_now(),
            "action": action,
            "outcome": outcome,
            "subject_type": subject_type,
            "subject_id": subject_id,
            "permission": permission or origin.permission,
            "attributes": storable(attributes),
            "details": storable(details),
            "changes": storable(changes) or None,
            "count": count,
            "source": origin.source[:200],
            "actor_id": actor_id or origin.actor_id,
            "impersonator_id": origin.impersonator_id,
            "session_id": origin.session_id,
            "address": origin.address and _plain(origin.address)[:64],
            "request_id": origin.request_id,
        }
        after_rollback(self.session, functools.partial(_record_failure, event))
        self.session.add(AuditEvent(**event))
        _count(self.session, event)

    def remove_older(self, *, days: int) -> int:
        """Delete a batch of events of more than so many days ago, which nobody else can. Returns how many."""
        self.session.execute(select(func.set_config("keel.audit_retention", str(days), true())))
        return self.remove_batch(AuditEvent.created_at < func.now() - timedelta(days=days))


def differences(row: Model, changes: Struct | Mapping[str, object]) -> dict[str, list[object]]:
    """The fields that `changes` would change, with their values before and after. Ask before it is done."""
    wanted = msgspec.structs.asdict(changes) if isinstance(changes, Struct) else changes
    sent = {name: value for name, value in wanted.items() if value is not UNSET}
    return {name: [getattr(row, name), value] for name, value in sent.items() if value != getattr(row, name)}


def storable(value: Any, name: str = "") -> Any:
    """As JSON in PostgreSQL holds it: without secrets, bytes, long text, and characters that cannot be stored."""
    match value:
        case Mapping():
            return {_plain(str(key)): storable(each, str(key)) for key, each in value.items()}
        case list() | tuple() | set() | frozenset():
            return [storable(each, name) for each in list(value)[:LONGEST_LIST]]
        case bytes():
            return MASK
        case str():
            return MASK if SECRET.search(name) else _plain(value)
        case float():
            return value if math.isfinite(value) else str(value)
        case None | bool() | int():
            return value
    return storable(msgspec.to_builtins(value), name)


def _plain(text: str) -> str:
    return NO_TEXT.sub("\N{REPLACEMENT CHARACTER}", text)[:LONGEST_TEXT]


def _named(subject: Subject | None) -> tuple[str, str] | tuple[None, None]:
    if subject is None:
        return None, None
    if isinstance(subject, Model):
        return re.sub(r"\B(?=[A-Z])", "_", type(subject).__name__).lower(), str(subject.id)
    kind, subject_id = subject
    return kind, _plain(str(subject_id))[:200]


def _record_failure(event: Mapping[str, Any], fresh: Session) -> None:
    """With the same id: whether a COMMIT that failed has happened nobody knows, and then the event is there."""
    outcome = Outcome.FAILURE if event["outcome"] is Outcome.SUCCESS else event["outcome"]
    fresh.execute(insert(AuditEvent).values({**event, "outcome": outcome}).on_conflict_do_nothing())
    _count(fresh, {**event, "outcome": outcome})


def _count(session: AnySession, event: Mapping[str, Any]) -> None:
    """For the metrics, where there are some: once it is certain that it is written down."""
    if count := session.info.get("count_event"):
        after_commit(session, functools.partial(count, event["action"], event["outcome"], event["count"]))
