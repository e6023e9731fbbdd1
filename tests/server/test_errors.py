"""Whatever comes in, what goes out is problem+json and never a 500."""

import base64
import json
from collections.abc import Callable
from http import HTTPStatus
from typing import Any
from uuid import uuid4

import pytest
from litestar import Litestar
from litestar.testing import TestClient
from sqlalchemy import text
from sqlalchemy.orm.exc import StaleDataError

from app.domain.items.models import Item
from app.server.errors import ANSWERS
from tests.conftest import API, SignedIn

pytestmark = pytest.mark.integration
Client = TestClient[Litestar]
AsUser = Callable[..., SignedIn]

DEEP = b"[" * 100_000
JSON = {"Content-Type": "application/json"}


def assert_problem(answer: Any, status: int) -> dict[str, Any]:
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = answer.json()
    assert problem["status"] == status
    assert problem["title"] == HTTPStatus(status).phrase
    assert problem["type"] == f"urn:keel:problem:{problem['code']}"
    assert problem["request_id"] == answer.headers["x-request-id"]
    return problem


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nowhere", 404),
        ("GET", f"{API}/nowhere", 404),
        ("GET", f"{API}/items/not-an-id", 404),
        ("GET", f"{API}/items/%00", 404),
        ("GET", "/%ff%fe", 404),
        ("GET", f"{API}/items/{'9' * 5000}", 404),
        ("PUT", f"{API}/items", 405),
        ("BREW", f"{API}/items", 405),
        ("DELETE", "/health", 405),
    ],
)
def test_what_no_route_answers(method: str, path: str, status: int, client: Client) -> None:
    assert_problem(client.request(method, path), status)


def test_405_tells_what_is_allowed(client: Client) -> None:
    assert set(client.put(f"{API}/items").headers["allow"].split(", ")) == {"GET", "POST", "OPTIONS"}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{",
        b"NaN",
        b"nonsense",
        b'{"title": "\xff"}',
        b'{"\xff": 1}',
        b'{"title": "\\ud800"}',
        b'{"title": "\\u0000"}',
        b'{"title": "x", "description": "\\u0000"}',
        b'{"title": "x\x00"}',
        b'{"title": ' + DEEP,
        DEEP,
        b'{"unknown": ' + b"[" * 3000 + b"]" * 3000 + b"}",
        b'{"title": ' + str(2**70).encode() + b"}",
        b'{"title": ' + b"1" * 5000 + b"}",
        b'{"title": 1e400}',
        b'{"title": "x", "extra": ' + str(2**31).encode() + b"}",
        b"\xef\xbb\xbf{}",
    ],
    ids=lambda body: repr(body[:24]),
)
@pytest.mark.parametrize("path", ["/items", "/auth/register", "/auth/login", "/auth/refresh"])
def test_a_body_that_cannot_be_read(path: str, body: bytes, as_user: AsUser) -> None:
    assert_problem(as_user().post(path, content=body, headers=JSON), 400)


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b'{"title": "\xff"}', "The body is not UTF-8."),
        (DEEP, "The body is nested too deeply."),
        (b"{", "The body cannot be read: Input data was truncated."),
    ],
)
def test_the_detail_says_why(body: bytes, detail: str, as_user: AsUser) -> None:
    assert as_user().post("/items", content=body, headers=JSON).json()["detail"] == detail


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "", "text/json"])
def test_json_from_another_content_type_is_415(content_type: str, as_user: AsUser) -> None:
    answer = as_user().post("/items", content=b'{"title": "x"}', headers={"Content-Type": content_type})

    assert_problem(answer, 415)


@pytest.mark.parametrize("content_type", ["application/json", "application/json; charset=utf-8", "APPLICATION/JSON"])
def test_json_is_read_however_it_is_spelt(content_type: str, as_user: AsUser) -> None:
    answer = as_user().post("/items", content=b'{"title": "x"}', headers={"Content-Type": content_type})

    assert answer.status_code == 201


def test_a_body_that_is_too_large_is_413(as_user: AsUser) -> None:
    body = b'{"title": "' + b"x" * (1024 * 1024) + b'"}'

    assert_problem(as_user().post("/items", content=body, headers=JSON), 413)
    assert_problem(as_user().post("/items", content=iter([body[:1000], body[1000:]]), headers=JSON), 413)


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer ", "Basic YTpi", "Bearer x y", "Bearer " + "x" * 8000, "bearer é", "Bearer \x00", "Token x"],
)
def test_a_useless_authorization_header_is_401(header: str, client: Client) -> None:
    answer = client.get(f"{API}/users/me", headers={b"Authorization": header.encode()})

    assert_problem(answer, 401)
    assert answer.headers["www-authenticate"] == "Bearer"


def test_a_useless_token_does_not_close_public_routes(client: Client) -> None:
    assert client.get("/health", headers={"Authorization": "Bearer x"}).status_code == 200


@pytest.mark.parametrize("crit", [5, [1], "x", {}])
def test_a_token_whose_header_has_an_unexpected_shape_is_401(crit: object, client: Client) -> None:
    header = base64.urlsafe_b64encode(json.dumps({"typ": "at+jwt", "alg": "HS256", "crit": crit}).encode()).decode()
    headers = {"Authorization": f"Bearer {header.rstrip('=')}.e30.AAAA"}

    assert_problem(client.get(f"{API}/users/me", headers=headers), 401)
    assert client.get("/health/live", headers=headers).status_code == 200


@pytest.mark.parametrize("name", ["%00", "a" * 300, "swagger-ui-dist/favicon-32x32.png/x", "../../../x", "..%2f..%2fx"])
def test_a_file_that_cannot_be_is_404(name: str, client: Client) -> None:
    assert_problem(client.get(f"{API}/docs/assets/{name}"), 404)


def test_what_goes_while_it_is_changed_is_404(as_user: AsUser, monkeypatch: pytest.MonkeyPatch) -> None:
    def go(*_: Any) -> None:
        raise StaleDataError

    monkeypatch.setattr("app.domain.items.services.ItemService.get_visible", go)

    assert_problem(as_user().patch(f"/items/{uuid4()}", json={"title": "x"}), 404)


def test_two_authorization_headers_are_nobody(as_user: AsUser) -> None:
    ada, grace = as_user(), as_user()
    both = [("Authorization", f"Bearer {who.token}") for who in (ada, grace)]

    assert_problem(ada.client.get(f"{API}/users/me", headers=both), 401)


def test_the_query_string_is_not_repeated_in_the_answer(as_user: AsUser) -> None:
    assert "sesame" not in as_user().get("/items?limit=x&token=sesame").text


def test_a_value_that_our_own_code_forgot_is_a_500_in_the_log(
    as_user: AsUser, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A conflict is what the caller can mend; a NOT NULL that fails is not."""
    ada = as_user()
    monkeypatch.setattr("app.domain.items.services.ItemService.create", forget_the_title)

    assert_problem(ada.post("/items", json={"title": "x"}), 500)
    assert "NotNullViolation" in caplog.text


def forget_the_title(service: Any, item: Item) -> None:
    service.session.execute(text("INSERT INTO items (id, owner_id) VALUES (:id, :id)"), {"id": item.owner_id})


def test_an_error_that_nobody_foresaw_is_a_bare_500(
    as_user: AsUser, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("the secret is sesame")

    ada = as_user()
    monkeypatch.setattr("app.domain.items.services.ItemService.page", fail)

    answer = ada.get("/items")

    problem = assert_problem(answer, 500)
    assert problem["detail"] == "Something went wrong on our side."
    assert "sesame" not in answer.text
    assert "sesame" in caplog.text


def test_every_error_class_has_an_exact_answer_or_inherits_none() -> None:
    assert all(100 <= answer.status < 600 and answer.code.isidentifier() for answer in ANSWERS.values())
