import json
import re
from typing import Any

import pytest
from litestar import Litestar
from litestar.testing import TestClient

from app.lib.settings import CHECKOUT
from tests.conftest import API

pytestmark = pytest.mark.integration
SNAPSHOT = CHECKOUT / "openapi.json"


@pytest.fixture
def description(app: Litestar) -> dict[str, Any]:
    described: dict[str, Any] = json.loads(json.dumps(app.openapi_schema.to_schema()))
    return described


def operations(description: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        f"{method.upper()} {path}": operation
        for path, item in description["paths"].items()
        for method, operation in item.items()
    }


def test_the_committed_description_is_that_of_the_code(description: dict[str, Any]) -> None:
    """To accept a change: `python3 manage.py docs`."""
    assert json.loads(SNAPSHOT.read_text()) == description


def test_operation_ids_are_unique_and_the_handlers_names(description: dict[str, Any]) -> None:
    ids = [operation["operationId"] for operation in operations(description).values()]

    assert len(ids) == len(set(ids))
    assert {"ListItems", "CreateItem", "GetItem", "UpdateItem", "DeleteItem", "Login", "GetMe"} <= set(ids)
    assert all(re.fullmatch(r"([A-Z][a-z]+)+", operation_id) for operation_id in ids)


def test_every_operation_says_in_words_what_it_does(description: dict[str, Any]) -> None:
    for operation in operations(description).values():
        assert operation["summary"].endswith(".")
        assert operation["tags"]


def test_what_needs_a_token_says_so_and_the_rest_does_not(description: dict[str, Any]) -> None:
    found = operations(description)

    ways_in = found[f"GET {API}/items"]["security"]
    assert ways_in == [{"BearerToken": []}, {"SessionCookie": []}, {"ApiKey": ["items:read"]}]
    assert found[f"POST {API}/items"]["security"][1] == {"SessionCookie": [], "CsrfToken": []}
    assert not any("ApiKey" in way_in for way_in in found[f"POST {API}/users/me/api-keys"]["security"])
    assert "403" in found[f"POST {API}/items"]["responses"]
    assert "401" in found[f"GET {API}/items"]["responses"]
    assert found[f"POST {API}/auth/login"]["security"] == []
    assert description["components"]["securitySchemes"]["BearerToken"]["scheme"] == "bearer"


def test_every_error_is_described_as_a_problem(description: dict[str, Any]) -> None:
    for operation in operations(description).values():
        errors = {
            code: answer for code, answer in operation["responses"].items() if code == "default" or code[0] == "4"
        }
        assert "default" in errors
        assert all(answer == {"$ref": "#/components/responses/Problem"} for answer in errors.values())


def test_a_download_is_binary_and_may_be_a_part_or_somewhere_else(description: dict[str, Any]) -> None:
    answers = description["paths"][f"{API}/files/{{file_id}}/content"]["get"]["responses"]

    binary = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
    assert [answers[code]["content"] for code in ("200", "206")] == [binary] * 2
    assert {"304", "307", "416"} <= answers.keys()


def test_a_page_has_a_short_name(description: dict[str, Any]) -> None:
    schemas = description["components"]["schemas"]

    assert "ItemPage" in schemas
    assert all(re.fullmatch(r"[A-Za-z]+", name) for name in schemas)


def test_services_and_other_inner_things_are_not_described(description: dict[str, Any]) -> None:
    text = json.dumps(description)

    assert not re.search(r'"(scope|settings|passwords|tokens|ItemService|Principal)"', text)


@pytest.mark.parametrize("page", ["docs", "redoc"])
def test_the_pages_need_nothing_from_elsewhere(page: str, client: TestClient[Litestar]) -> None:
    html = client.get(f"{API}/{page}")
    assets = set(re.findall(r'(?:src|href)="([^"]+)"', html.text))

    assert html.status_code == 200
    assert assets
    for asset in assets:
        assert asset.startswith(f"{API}/docs/assets/")
        assert client.get(asset).status_code == 200


def test_the_description_is_served(client: TestClient[Litestar], description: dict[str, Any]) -> None:
    assert client.get(f"{API}/openapi.json").json() == description
