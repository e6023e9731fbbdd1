from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from litestar import Litestar
from litestar.testing import TestClient
from sqlalchemy import Connection, select
from sqlalchemy.orm import Session

from app.domain.items.models import Item
from app.lib.db.models import utc_now
from tests.conftest import SignedIn
from tests.factories.items import ItemFactory

pytestmark = pytest.mark.integration
AsUser = Callable[..., SignedIn]


def own(session: Session, who: SignedIn, **fields: Any) -> Item:
    item = ItemFactory.build(owner_id=who.user.id, **fields)
    session.add(item)
    session.commit()
    return item


def test_a_created_item_is_stored_and_belongs_to_its_creator(as_user: AsUser, connection: Connection) -> None:
    ada = as_user()

    answer = ada.post("/items", json={"title": "Buy milk", "description": "Two litres."})

    assert answer.status_code == 201
    stored = connection.execute(select(Item.title, Item.owner_id).where(Item.id == answer.json()["id"])).one()
    assert stored == ("Buy milk", ada.user.id)


def test_an_id_is_a_uuid_of_version_7(as_user: AsUser) -> None:
    assert as_user().post("/items", json={"title": "Buy milk"}).json()["id"][14] == "7"


def test_a_change_leaves_what_was_not_sent(as_user: AsUser, session: Session) -> None:
    ada = as_user()
    item = own(session, ada, title="Buy milk", description="Two litres.")

    answer = ada.patch(f"/items/{item.id}", json={"title": "Buy tea"}).json()

    assert (answer["title"], answer["description"]) == ("Buy tea", "Two litres.")
    assert answer["updated_at"] > answer["created_at"]


def test_null_empties_a_field_that_may_be_empty(as_user: AsUser, session: Session) -> None:
    ada = as_user()
    item = own(session, ada, description="Two litres.")

    assert ada.patch(f"/items/{item.id}", json={"description": None}).json()["description"] is None
    assert ada.patch(f"/items/{item.id}", json={"title": None}).status_code == 400


def test_a_deleted_item_is_gone(as_user: AsUser, session: Session) -> None:
    ada = as_user()
    item = own(session, ada)

    assert ada.delete(f"/items/{item.id}").status_code == 204
    assert ada.get(f"/items/{item.id}").status_code == 404
    assert ada.delete(f"/items/{item.id}").status_code == 404


@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
def test_somebody_elses_item_looks_like_one_that_does_not_exist(
    method: str, as_user: AsUser, session: Session, connection: Connection
) -> None:
    item = own(session, as_user(), title="Secret")
    eve = as_user()
    body = {"json": {"title": "Mine"}} if method == "PATCH" else {}

    theirs = eve.request(method, f"/items/{item.id}", **body)
    missing = eve.request(method, f"/items/{uuid4()}", **body)

    assert theirs.status_code == missing.status_code == 404
    assert theirs.json()["detail"] == missing.json()["detail"]
    assert connection.scalar(select(Item.title).where(Item.id == item.id)) == "Secret"


def test_a_list_holds_my_items_only_and_an_administrators_all(as_user: AsUser, session: Session) -> None:
    ada, grace, superuser, admin = as_user(), as_user(), as_user(is_superuser=True), as_user(role="admin")
    hers, his = own(session, ada), own(session, grace)

    def listed(who: SignedIn) -> set[str]:
        return {item["id"] for item in who.get("/items").json()["items"]}

    assert listed(ada) == {str(hers.id)}
    assert listed(superuser) == listed(admin) >= {str(hers.id), str(his.id)}


def test_pages_by_offset_tell_the_total_also_past_the_end(as_user: AsUser, session: Session) -> None:
    ada = as_user()
    titles = [own(session, ada, title=f"{number}").title for number in range(5)]

    second = ada.get("/items?limit=2&offset=2&sort=title").json()
    past = ada.get("/items?limit=2&offset=20").json()

    assert [item["title"] for item in second["items"]] == titles[2:4]
    assert {key: second[key] for key in ("total", "limit", "offset")} == {"total": 5, "limit": 2, "offset": 2}
    assert (past["items"], past["total"]) == ([], 5)


@pytest.mark.parametrize("sort", ["title", "-title", "created_at", "-created_at", "updated_at", "-updated_at"])
def test_a_walk_by_cursor_sees_each_row_once_while_others_are_inserted(
    sort: str, as_user: AsUser, session: Session
) -> None:
    ada = as_user()
    now = utc_now()
    there = {str(own(session, ada, title="same", created_at=now, updated_at=now).id) for _ in range(7)}

    seen: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        page = ada.get("/items", params={"limit": 2, "cursor": cursor, "sort": sort}).json()
        assert "total" not in page
        seen += [item["id"] for item in page["items"]]
        cursor = page["next_cursor"]
        own(session, ada, title="new")

    assert len(seen) == len(set(seen))
    assert there <= set(seen)


def test_text_is_found_in_title_and_description_and_percent_is_a_letter(as_user: AsUser, session: Session) -> None:
    ada = as_user()
    for title, description in [("100% wool", None), ("Milk", "Two LITRES"), ("under_score", None), ("x", "y")]:
        own(session, ada, title=title, description=description)

    def found(q: str) -> list[str]:
        return [item["title"] for item in ada.get("/items", params={"q": q, "sort": "title"}).json()["items"]]

    assert found("litres") == ["Milk"]
    assert found("%") == ["100% wool"]
    assert found("_") == ["under_score"]
    assert found("nowhere") == []


def test_items_are_filtered_by_the_time_they_were_made(as_user: AsUser, session: Session) -> None:
    ada = as_user()
    for year in (2024, 2025, 2026):
        own(session, ada, title=str(year), created_at=datetime(year, 6, 1, tzinfo=UTC))

    between = {"created_after": "2025-01-01T02:00:00+02:00", "created_before": "2026-01-01T00:00:00"}

    assert [item["title"] for item in ada.get("/items", params=between).json()["items"]] == ["2025"]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=x", "limit"),
        (f"limit={2**70}", "limit"),
        ("offset=-1", "offset"),
        (f"offset={'9' * 5000}", "offset"),
        ("sort=owner_id", "sort"),
        ("sort=password_hash", "sort"),
        ("sort=__class__", "sort"),
        ("sort=", "sort"),
        ("cursor=abc", "cursor"),
        ("cursor=%FF", "cursor"),
        ("cursor=WyJ0aXRsZSIsIngiLCIwMWEyMDZjNC0wMGM3LTczYTEtOWMxNy00ODJlNzhiYmNlMGIiXQ==", "cursor"),
        ("cursor=WyItY3JlYXRlZF9hdCIsMSwieCJd", "cursor"),
        ("q=%00", "q"),
        (f"q={'x' * 65}", "q"),
        ("created_after=yesterday", "created_after"),
        ("created_after=253402300800", "created_after"),
        ("created_after=1", "created_after"),
        ("created_before=9999-99-99T00:00:00Z", "created_before"),
        ("created_before=10000-01-01T00:00:00Z", "created_before"),
    ],
)
def test_a_bad_query_is_400_and_names_the_field(query: str, field: str, as_user: AsUser) -> None:
    answer = as_user().get(f"/items?{query}")

    assert answer.status_code == 400
    assert [error["field"] for error in answer.json()["errors"]] == [field]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"title": ""},
        {"title": "x" * 201},
        {"title": 1},
        {"title": "two\nlines"},
        {"title": "NUL \x00"},
        {"title": "x", "description": "x" * 10_001},
        {"title": "x", "description": "\x00"},
        {"title": "x", "owner_id": str(uuid4())},
        {"title": "x", "id": str(uuid4())},
        [],
        None,
    ],
)
def test_a_bad_body_is_400_and_stores_nothing(body: object, as_user: AsUser) -> None:
    ada = as_user()

    assert ada.post("/items", json=body).status_code == 400
    assert ada.get("/items").json()["total"] == 0


def test_nobody_sees_items_without_signing_in(client: TestClient[Litestar]) -> None:
    answer = client.get("/api/v1/items")

    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
