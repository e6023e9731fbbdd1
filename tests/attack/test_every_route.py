"""What every route must withstand, those of tomorrow too: the routes are read from the server's own description."""

import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from uuid import uuid4

import pytest

from tests.attack.conftest import Keel

pytestmark = pytest.mark.e2e

RUBBISH = [
    b"",
    b"null",
    b"[]",
    b'"text"',
    b"{",
    b'{"a": NaN}',
    b"\xff\xfe",
    b'{"email": "\\ud800", "password": "\\ud800", "title": "\\ud800", "token": "\\ud800"}',
    b'{"email": "a\\u0000b@example.com", "password": "\\u0000", "title": "\\u0000", "token": "\\u0000"}',
    b'{"email": 1e400, "title": %s}' % (b"9" * 5000),
    b"[" * 100_000,
    b'{"id": "x", "is_superuser": true, "roles": ["admin"], "tenant_id": 1}',
]
BAD_IDS = ["0", "-1", "9" * 400, "%00", "%ff", "..%2f..", "' OR 1=1 --", "null", str(uuid4())]


class Operation(NamedTuple):
    method: str
    path: str
    is_public: bool
    content_type: str | None
    queries: dict[str, Any]
    """The schema of each query parameter."""

    def __str__(self) -> str:
        return f"{self.method.upper()} {self.path}"

    def url(self, value: str) -> str:
        """The path with `value` in each of its places."""
        return re.sub(r"\{\w+\}", value, self.path)


def operations(keel: Keel) -> Iterator[Operation]:
    with keel.client() as client:
        described: dict[str, Any] = client.get("/openapi.json").raise_for_status().json()
    for path, item in described["paths"].items():
        for method, operation in item.items():
            content = list(operation.get("requestBody", {}).get("content", {}))
            queries = {one["name"]: one["schema"] for one in operation.get("parameters", []) if one["in"] == "query"}
            yield Operation(method, path, not operation["security"], content[0] if content else None, queries)


def statuses(
    keel: Keel, wanted: list[Operation], *, values: list[str], token: str | None = None, **options: Any
) -> Iterator[tuple[str, int]]:
    """What each operation answers to each value in its path, said by `GET /path value`."""
    assert wanted
    with keel.client(token=token, base_url=keel.here.url) as client:
        for operation in wanted:
            for value in values:
                answer = client.request(operation.method, operation.url(value), **options)
                yield f"{operation} {value[:20]}", answer.status_code


def is_refused(status: int) -> bool:
    return 400 <= status < 500


@pytest.mark.attack(67)
def test_nobody_gets_in_without_a_token(keel: Keel) -> None:
    guarded = [operation for operation in operations(keel) if not operation.is_public]

    answers = statuses(keel, guarded, values=[str(uuid4())])

    assert [said for said in answers if said[1] != 401] == []


@pytest.mark.attack(67)
def test_no_other_spelling_of_a_path_or_method_gets_past_its_guard(keel: Keel) -> None:
    guarded = [operation for operation in operations(keel) if not operation.is_public]
    spellings: list[Callable[[str], str]] = [
        lambda path: f"{path}/",
        lambda path: path.replace("/api/", "//api/"),
        lambda path: path.replace("/api/", "/%2e/api/"),
        lambda path: path.replace("/api/v1/", "/api/v1/x/../"),
        lambda path: path.replace("/api/", "/API/"),
        lambda path: f"{path}%00",
        lambda path: f"{path};x=1",
        lambda path: f"{path}.json",
    ]

    with keel.client(base_url=keel.here.url, headers={"X-HTTP-Method-Override": "GET"}) as client:
        answers = [
            (method, path, client.request(method, path).status_code)
            for operation in guarded
            for method in (operation.method, "head", "trace")
            for path in [spell(operation.url(str(uuid4()))) for spell in spellings]
        ]

    assert [said for said in answers if said[2] not in (400, 401, 404, 405)] == []


@pytest.mark.attack(19)
def test_a_refresh_token_is_no_access_token_anywhere(keel: Keel) -> None:
    token = keel.sign_in(keel.sign_up())["refresh_token"]
    guarded = [operation for operation in operations(keel) if not operation.is_public]

    answers = statuses(keel, guarded, values=[str(uuid4())], token=token)

    assert [said for said in answers if said[1] != 401] == []


@pytest.mark.attack(28)
def test_json_in_plain_text_is_read_nowhere(keel: Keel) -> None:
    token = keel.sign_in(keel.sign_up())["access_token"]
    taking = [operation for operation in operations(keel) if operation.content_type]
    plain: dict[str, Any] = {"content": b"{}", "headers": {"Content-Type": "text/plain"}}

    answers = statuses(keel, taking, values=[str(uuid4())], token=token, **plain)

    assert [said for said in answers if said[1] not in (403, 415)] == []


@pytest.mark.attack(71)
@pytest.mark.parametrize("rubbish", RUBBISH, ids=lambda rubbish: repr(rubbish[:30]))
def test_rubbish_in_a_body_is_never_our_fault(keel: Keel, rubbish: bytes) -> None:
    token = keel.sign_in(keel.sign_up())["access_token"]
    taking = [operation for operation in operations(keel) if operation.content_type]

    for kind in {operation.content_type for operation in taking}:
        of_kind = [operation for operation in taking if operation.content_type == kind]
        sent: dict[str, Any] = {"content": rubbish, "headers": {"Content-Type": kind}}
        answers = statuses(keel, of_kind, values=[str(uuid4())], token=token, **sent)

        assert [said for said in answers if not is_refused(said[1])] == []


@pytest.mark.attack(65)
def test_an_id_that_is_none_or_nobodys_shows_nothing(keel: Keel) -> None:
    token = keel.sign_in(keel.sign_up())["access_token"]
    naming = [operation for operation in operations(keel) if "{" in operation.path]

    answers = statuses(keel, naming, values=BAD_IDS, token=token)

    assert [said for said in answers if not is_refused(said[1])] == []
