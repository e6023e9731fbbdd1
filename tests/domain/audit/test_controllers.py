from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy.orm import Session

from app.domain.audit.models import Action, AuditEvent, Outcome
from tests.conftest import SignedIn
from tests.factories.audit_events import AuditEventFactory

pytestmark = pytest.mark.integration
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
ADA, NOBODY = UUID(int=1), UUID(int=2)


@pytest.fixture
def admin(as_user: Callable[..., SignedIn]) -> SignedIn:
    return as_user(is_superuser=True)


@pytest.fixture
def events(session: Session) -> list[AuditEvent]:
    """Of long ago, an hour apart, the oldest first."""
    fields: list[dict[str, Any]] = [
        {"actor_id": ADA, "request_id": "request-1", "source": "POST /one%"},
        {"action": Action.USER_READ, "subject_type": "user", "subject_id": str(ADA)},
        {"action": Action.ACCESS_DENIED, "outcome": Outcome.DENIED, "permission": "users:read"},
        {"subject_type": "role", "subject_id": str(ADA), "changes": {"name": ["a", "b"]}},
    ]
    made = [
        AuditEventFactory.build(created_at=LONG_AGO + timedelta(hours=number), **each)
        for number, each in enumerate(fields)
    ]
    session.add_all(made)
    session.commit()
    return made


def listed(admin: SignedIn, **query: Any) -> Any:
    """Of those of long ago: signing in has made others."""
    before = {"created_before": "2021-01-01T00:00:00Z"}
    return admin.get("/audit-events", params=before | query)


def ids(answer: Any) -> list[str]:
    return [item["id"] for item in answer.json()["items"]]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({}, [3, 2, 1, 0]),
        ({"sort": "created_at"}, [0, 1, 2, 3]),
        ({"actor_id": str(ADA)}, [0]),
        ({"actor_id": str(NOBODY)}, []),
        ({"action": "user.read"}, [1]),
        ({"subject_id": str(ADA)}, [3, 1]),
        ({"subject_type": "user", "subject_id": str(ADA)}, [1]),
        ({"outcome": "denied"}, [2]),
        ({"permission": "users:read"}, [2]),
        ({"request_id": "request-1"}, [0]),
        ({"created_after": "2020-01-01T02:00:00Z"}, [3, 2]),
        ({"created_after": "2020-01-01T01:00:00Z", "created_before": "2020-01-01T03:00:00Z"}, [2, 1]),
        ({"q": "ONE%"}, [0]),
        ({"limit": 2, "offset": 1}, [2, 1]),
    ],
    ids=str,
)
def test_the_list_is_filtered_and_sorted_by_time(
    admin: SignedIn, events: list[AuditEvent], query: dict[str, Any], found: list[int]
) -> None:
    wanted = {str(event.id): number for number, event in enumerate(events)}

    assert [wanted[each] for each in ids(listed(admin, **query))] == found


def test_a_walk_sees_each_event_once_while_others_are_added(
    admin: SignedIn, events: list[AuditEvent], session: Session
) -> None:
    seen: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        answer = listed(admin, cursor=cursor, limit=2)
        seen += ids(answer)
        cursor = answer.json()["next_cursor"]
        session.add(AuditEventFactory.build(created_at=LONG_AGO + timedelta(days=1)))
        session.commit()

    assert seen == [str(event.id) for event in reversed(events)]


def test_an_event_is_shown_whole(admin: SignedIn, events: list[AuditEvent]) -> None:
    [shown] = listed(admin, subject_type="role").json()["items"]

    assert shown["changes"] == {"name": ["a", "b"]}
    assert set(shown) == {column.key for column in AuditEvent.__table__.columns}


@pytest.mark.parametrize(
    "query",
    [
        {"sort": "action"},
        {"action": "nonsense"},
        {"outcome": "nonsense"},
        {"actor_id": "nonsense"},
        {"subject_id": "a\nb"},
        {"permission": "x" * 201},
        {"limit": 101},
    ],
    ids=str,
)
def test_what_cannot_be_asked_is_refused(admin: SignedIn, query: dict[str, Any]) -> None:
    assert admin.get("/audit-events", params=query).status_code == 400


def test_an_action_of_newer_code_is_shown_too(admin: SignedIn, session: Session) -> None:
    session.add(AuditEventFactory.build(action="moon.reached", created_at=LONG_AGO))
    session.commit()

    assert [item["action"] for item in listed(admin).json()["items"]] == ["moon.reached"]


def test_it_is_for_administrators(as_user: Callable[..., SignedIn]) -> None:
    ada = as_user()

    assert ada.get("/audit-events").status_code == 403
    assert ada.client.get("/api/v1/audit-events").status_code == 401
