from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
import time_machine
from litestar import Litestar
from sqlalchemy.orm import Session

from app.domain.api_keys.models import ApiKey
from app.domain.api_keys.services import MAX_KEYS
from app.lib.access.guards import RECENT_SIGN_IN
from app.lib.api_keys import SHOWN, is_well_formed
from app.lib.db.models import utc_now
from app.lib.random_secrets import hash_of
from tests.conftest import SignedIn
from tests.factories.api_keys import ApiKeyFactory

pytestmark = pytest.mark.integration
AsUser = Callable[..., SignedIn]
KEYS = "/users/me/api-keys"


def create(who: SignedIn, **fields: Any) -> Any:
    return who.post(KEYS, json={"name": "nightly import", "scopes": ["items:read"], **fields})


def test_a_key_is_shown_once_and_only_its_hash_is_stored(as_user: AsUser, session: Session) -> None:
    ada = as_user()

    answer = create(ada, scopes=["items:read", "items:create", "items:read"])

    assert answer.status_code == 201
    made = answer.json()
    assert is_well_formed(made["key"])
    assert made["prefix"] == made["key"][:SHOWN]
    row = session.get_one(ApiKey, made["id"])
    assert (row.user_id, row.key_hash, row.scopes) == (
        ada.user.id,
        hash_of(made["key"]),
        ["items:create", "items:read"],
    )
    [listed] = ada.get(KEYS).json()["items"]
    assert listed == {name: value for name, value in made.items() if name != "key"}


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"scopes": ["items:read", "api_keys:create"]}, "scopes"),
        ({"scopes": ["*"]}, "scopes"),
        ({"scopes": ["items:*"]}, "scopes"),
        ({"scopes": []}, "scopes"),
        ({"name": ""}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, "expires_at"),
        ({"expires_at": "9999-12-31T23:59:59-14:00"}, "expires_at"),
        ({"expires_at": "0001-01-01T00:00:00+14:00"}, "expires_at"),
        ({"expires_at": "2030-01-01T00:00:00"}, "expires_at"),
        ({"user_id": str(uuid4())}, "data"),
    ],
)
def test_what_cannot_be_is_400_and_names_the_field(fields: dict[str, Any], named: str, as_user: AsUser) -> None:
    answer = create(as_user(), **fields)

    assert answer.status_code == 400
    assert named in [error["field"].split("[")[0] for error in answer.json()["errors"]]


def test_an_unknown_scope_is_answered_with_those_that_there_are(as_user: AsUser, app: Litestar) -> None:
    ada = as_user()
    known = ada.get(f"{KEYS}/scopes").json()["items"]

    [error] = create(ada, scopes=["items:destroy"]).json()["errors"]

    assert {"items:read", "items:create", "items:update", "items:delete", "files:read"} <= set(known)
    assert error["message"] == f"There is no scope 'items:destroy'. There are: {', '.join(known)}."
    schema = app.openapi_schema.components.schemas["ApiKeyCreate"].to_schema()
    assert schema["properties"]["scopes"]["items"]["enum"] == known


def test_a_session_of_long_ago_makes_no_key(as_user: AsUser, clock: time_machine.Traveller) -> None:
    ada = as_user()
    clock.shift(RECENT_SIGN_IN + 2)

    answer = create(ada)

    assert (answer.status_code, answer.json()["code"]) == (403, "reauthentication_required")


def test_i_revoke_my_own_keys_only(as_user: AsUser, session: Session) -> None:
    ada, eve = as_user(), as_user()
    made = create(ada).json()

    assert eve.delete(f"{KEYS}/{made['id']}").status_code == 404
    assert ada.delete(f"{KEYS}/{made['id']}").status_code == 204

    assert ada.delete(f"{KEYS}/{made['id']}").status_code == 404
    assert ada.get(KEYS).json()["total"] == 0
    assert eve.get(KEYS).json()["total"] == 0


def test_an_account_has_so_many_keys_and_no_more(as_user: AsUser, session: Session) -> None:
    ada = as_user()
    session.add_all(ApiKeyFactory.batch(MAX_KEYS, user_id=ada.user.id))
    session.commit()

    refused = create(ada)
    ada.delete(f"{KEYS}/{ada.get(KEYS).json()['items'][0]['id']}")
    again = create(ada, expires_at=(utc_now() + timedelta(days=90)).isoformat())

    assert (refused.status_code, refused.json()["code"]) == (409, "too_many_api_keys")
    assert again.status_code == 201
