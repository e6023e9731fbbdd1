import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest
from litestar import Litestar

from app.lib.settings import CHECKOUT
from app.server.openapi.changes import changes
from app.server.openapi.documents import UnreadableDescriptionError, read_description
from tests.command_line import CommandLine

pytestmark = pytest.mark.unit

NOTE = {
    "type": "object",
    "required": ["id", "title", "state"],
    "properties": {
        "id": {"type": "string", "format": "uuid"},
        "title": {"type": "string", "maxLength": 200},
        "state": {"enum": ["draft", "published"]},
        "size": {"type": "integer"},
        "parent": {"oneOf": [{"$ref": "#/components/schemas/Note"}, {"type": "null"}]},
        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
    },
}
NOTE_CREATE = {
    "type": "object",
    "additionalProperties": False,
    "required": ["title"],
    "properties": {
        "title": {"type": "string", "minLength": 1, "maxLength": 200},
        "state": {"type": "string", "enum": ["draft", "published"], "default": "draft"},
        "due": {"oneOf": [{"type": "string"}, {"type": "null"}]},
        "weight": {"type": "number", "minimum": 0},
        "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 9},
        "label": {"anyOf": [{"$ref": "#/components/schemas/Label"}, {"type": "string"}]},
    },
}
LABEL = {"type": "object", "properties": {"name": {"type": "string"}, "of": {"$ref": "#/components/schemas/Label"}}}
BODY = {"required": True, "content": {"application/json": {"schema": {"$ref": "#/components/schemas/NoteCreate"}}}}
ANSWER = {
    "description": "One.",
    "headers": {"ETag": {}},
    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Note"}}},
}
LIMIT = {"name": "limit", "in": "query", "schema": {"type": "integer", "maximum": 100, "default": 20}}
NOTE_ID = {"name": "note_id", "in": "path", "required": True, "schema": {"type": "string"}}
POST = {
    "operationId": "CreateNote",
    "parameters": [LIMIT],
    "requestBody": BODY,
    "security": [{"Bearer": []}, {"Key": ["notes:create"]}],
    "responses": {"201": ANSWER, "400": {"description": "No."}},
}
DOCUMENT: dict[str, Any] = {
    "openapi": "3.1.0",
    "servers": [{"url": "/"}],
    "paths": {
        "/notes": {"post": POST},
        "/notes/{note_id}": {"get": {"parameters": [NOTE_ID], "responses": {"200": ANSWER}}},
    },
    "components": {
        "schemas": {"Note": NOTE, "NoteCreate": NOTE_CREATE, "Label": LABEL},
        "securitySchemes": {"Bearer": {"type": "http", "scheme": "bearer"}, "Key": {"type": "http"}},
    },
}
POSTED = "paths./notes.post"
SENT = "components.schemas.NoteCreate.properties"
GOT = "components.schemas.Note.properties"

BREAKING: list[tuple[str, Any, str]] = [
    ("paths./notes", None, "POST /notes: It is gone."),
    ("paths./notes/{note_id}.get", None, "GET /notes/{note_id}: It is gone."),
    (f"{POSTED}.operationId", "MakeNote", "POST /notes: Its name was CreateNote and is MakeNote"),
    ("servers", [{"url": "/v2"}], "servers: / is gone."),
    ("components.securitySchemes.Bearer.scheme", "basic", "security Bearer: It is given in another way."),
    (f"{POSTED}.security", [{"Bearer": []}], "POST /notes: It no longer lets in who shows Key with notes:create."),
    (f"{POSTED}.security.1.Key", ["notes:write"], "POST /notes: It no longer lets in who shows Key with notes:create."),
    (f"{POSTED}.security.0.Csrf", [], "POST /notes: It no longer lets in who shows Bearer."),
    (f"{POSTED}.parameters", [], "POST /notes, query parameter limit: It is gone."),
    (f"{POSTED}.parameters.0.required", True, "POST /notes, query parameter limit: It is required now."),
    (f"{POSTED}.parameters.0.schema.maximum", 50, "limit: Its maximum was 100 and is 50."),
    (f"{POSTED}.parameters.0.schema.default", 10, "limit: Its default is another one"),
    (f"{POSTED}.parameters.0.schema.type", "boolean", "limit: It is no longer integer."),
    (f"{POSTED}.parameters.0.schema.multipleOf", 5, "limit: Its multipleOf is another one."),
    (f"{POSTED}.parameters.1", {"name": "x", "in": "header", "required": True}, "header parameter x: It is new, and"),
    (f"{POSTED}.requestBody", None, "POST /notes, body: It is gone."),
    (f"{POSTED}.requestBody.content", {"text/plain": {}}, "POST /notes, body: application/json is gone."),
    (f"{SENT}.state", None, "POST /notes, body: state: It is gone."),
    (f"{SENT}.state.enum", ["draft"], "POST /notes, body: state: It is no longer published."),
    (f"{SENT}.state.default", "published", "POST /notes, body: state: Its default is another one"),
    (f"{SENT}.title.maxLength", 100, "POST /notes, body: title: Its maxLength was 200 and is 100."),
    (f"{SENT}.title.minLength", 2, "POST /notes, body: title: Its minLength was 1 and is 2."),
    (f"{SENT}.title.pattern", "^a", "POST /notes, body: title: Its pattern is ^a now."),
    (f"{SENT}.title.enum", ["a", "b"], "POST /notes, body: title: It is only one of a, b now."),
    (f"{SENT}.title.const", "a", "POST /notes, body: title: It is only one of a now."),
    (f"{SENT}.due", {"type": "string"}, "POST /notes, body: due: It is no longer null."),
    (f"{SENT}.weight.type", "integer", "POST /notes, body: weight: It is no longer a fraction."),
    (f"{SENT}.tags.items.type", "integer", "POST /notes, body: tags[]: It is no longer string."),
    (f"{SENT}.tags.maxItems", 3, "POST /notes, body: tags: Its maxItems was 9 and is 3."),
    ("components.schemas.NoteCreate.required", ["title", "due"], "POST /notes, body: due: It is required now."),
    ("components.schemas.Label.required", ["name"], "POST /notes, body: label.name: It is required now."),
    (f"{SENT}.label", {"type": "string"}, "POST /notes, body: label: It is no longer Label."),
    ("paths./notes/{note_id}.get.responses.200", None, "GET /notes/{note_id}, answer 200: It is gone."),
    (f"{POSTED}.responses.201.content", {}, "POST /notes, answer 201: application/json is gone."),
    (f"{POSTED}.responses.201.headers", {}, "POST /notes, answer 201: The header etag is gone."),
    (f"{GOT}.title", None, "answer 201: title: It is gone."),
    (f"{GOT}.title.type", ["string", "null"], "answer 201: title: It may be null now."),
    (f"{GOT}.title.maxLength", 300, "answer 201: title: Its maxLength was 200 and is 300."),
    (f"{GOT}.id.format", None, "answer 201: id: It has no format any more."),
    (f"{GOT}.id.format", "uri", "answer 201: id: Its format was uuid and is uri."),
    (f"{GOT}.state.enum", ["draft", "published", "archived"], "answer 201: state: It may be archived now."),
    (f"{GOT}.state", {"type": "string"}, "answer 201: state: It is no longer only one of draft, published."),
    (f"{GOT}.size.type", "number", "answer 201: size: It may be a fraction now."),
    (f"{GOT}.size", {}, "answer 201: size: It may be anything now, not only integer."),
    (f"{GOT}.labels.additionalProperties.type", ["string", "null"], "answer 201: labels.*: It may be null now."),
    ("components.schemas.Note.required", ["id", "title"], "answer 201: state: It may be left out now."),
]
HARMLESS: list[tuple[str, Any, str]] = [
    ("paths./notes.get", {}, "GET /notes: It is new."),
    (f"{POSTED}.deprecated", True, "POST /notes: It is deprecated."),
    (f"{POSTED}.security.1.Key", [], "POST /notes: It lets in who shows Key."),
    (f"{POSTED}.security", [], "POST /notes: It lets in who shows nothing."),
    (f"{POSTED}.parameters.1", {"name": "x", "in": "query"}, "POST /notes, query parameter x: It is new."),
    (f"{POSTED}.parameters.0.schema.maximum", 500, "limit: Its maximum was 100 and is 500."),
    (f"{POSTED}.requestBody.content.text/plain", {}, "POST /notes, body: text/plain is new."),
    (f"{POSTED}.responses.400", None, "POST /notes, answer 400: It is gone."),
    (f"{POSTED}.responses.409", {}, "POST /notes, answer 409: It is new."),
    (f"{POSTED}.responses.201.headers.Link", {}, "POST /notes, answer 201: The header link is new."),
    (f"{SENT}.colour", {"type": "string"}, "POST /notes, body: colour: It is new."),
    (f"{SENT}.state.enum", ["draft", "published", "x"], "POST /notes, body: state: It may be x now."),
    (f"{SENT}.weight", {"minimum": 0}, "POST /notes, body: weight: It may be anything now, not only number."),
    (f"{SENT}.title.minLength", None, "POST /notes, body: title: Its minLength was 1 and is none."),
    ("components.schemas.NoteCreate.required", [], "POST /notes, body: title: It may be left out now."),
    ("components.schemas.NoteCreate.additionalProperties", True, "POST /notes, body: It takes other properties, too."),
    (f"{GOT}.colour", {"type": "string"}, "answer 201: colour: It is new."),
    (f"{GOT}.parent", {"$ref": "#/components/schemas/Note"}, "answer 201: parent: It is no longer null."),
    (f"{GOT}.state.enum", ["draft"], "answer 201: state: It is no longer published."),
]
NOTHING: list[tuple[str, Any]] = [
    (f"{POSTED}.summary", "Other words."),
    (f"{GOT}.title.description", "Other words."),
    (f"{GOT}.title.examples", ["x"]),
    (f"{GOT}.state", {"type": "string", "enum": ["published", "draft"]}),
    (f"{SENT}.due", {"type": ["string", "null"]}),
    (f"{SENT}.title", {"allOf": [{"type": "string", "minLength": 1}, {"maxLength": 200}]}),
    ("components.schemas.Other", {"type": "string"}),
]


def edited(path: str, value: Any) -> dict[str, Any]:
    """The document with another value there; None removes it. Names in paths have dots nowhere."""
    document = copy.deepcopy(DOCUMENT)
    *steps, last = path.split(".")
    place: Any = document
    for step in steps:
        place = place[int(step)] if isinstance(place, list) else place[step]
    if isinstance(place, list):
        place.insert(int(last), value)
    elif value is None:
        del place[last]
    else:
        place[last] = value
    return document


def said(old: dict[str, Any], new: dict[str, Any]) -> list[tuple[bool, str]]:
    return [(change.is_breaking, f"{change.where}: {change.what}") for change in changes(old, new)]


@pytest.mark.parametrize(("path", "value", "expected"), BREAKING, ids=[row[2] for row in BREAKING])
def test_what_breaks_a_client_is_named(path: str, value: Any, expected: str) -> None:
    assert any(is_breaking and expected in line for is_breaking, line in said(DOCUMENT, edited(path, value)))


@pytest.mark.parametrize(("path", "value", "expected"), HARMLESS, ids=[row[2] for row in HARMLESS])
def test_what_clients_can_live_with_is_named_and_is_not_breaking(path: str, value: Any, expected: str) -> None:
    found = said(DOCUMENT, edited(path, value))

    assert any(expected in line for _, line in found)
    assert not any(is_breaking for is_breaking, _ in found)


@pytest.mark.parametrize(("path", "value"), NOTHING, ids=[row[0] for row in NOTHING])
def test_words_and_other_ways_to_say_the_same_are_no_change(path: str, value: Any) -> None:
    assert said(DOCUMENT, edited(path, value)) == []


def test_the_names_in_a_path_are_nobodys_concern() -> None:
    renamed = json.loads(json.dumps(DOCUMENT).replace("note_id", "id"))

    assert said(DOCUMENT, renamed) == []


def test_a_schema_that_was_renamed_or_contains_itself_is_followed() -> None:
    renamed = json.loads(re.sub(r"\bNote\b", "Remark", json.dumps(DOCUMENT)))
    renamed["components"]["schemas"]["Remark"]["properties"]["title"]["type"] = "integer"

    assert said(DOCUMENT, DOCUMENT) == []
    assert (True, "GET /notes/{note_id}, answer 200: title: It may be integer now.") in said(DOCUMENT, renamed)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"openapi: 3.1.0", "This is not JSON"),
        (b"[]", "This does not describe an API in OpenAPI 3."),
        (b'{"swagger": "2.0"}', "This does not describe an API in OpenAPI 3."),
        (b'{"openapi": "3.1.0", "paths": []}', "This does not describe an API as OpenAPI 3 does"),
        (b'{"openapi": "3.1.0", "paths": {"/x": {"get": 7}}}', "This does not describe an API as OpenAPI 3 does"),
        (b'{"openapi": "3.1.0", "paths": {"/x": {"$ref": "#/nowhere"}}}', "The reference #/nowhere leads nowhere"),
        (
            b'{"openapi": "3.1.0", "paths": {"/x": {"$ref": "#/paths/~1x"}}}',
            "The reference #/paths/~1x leads to itself",
        ),
        (b'{"openapi": "3.1.0", "paths": {"/x": {"$ref": "other.json"}}}', "The reference other.json leads nowhere"),
    ],
    ids=["yaml", "list", "swagger", "paths", "operation", "nowhere", "circle", "elsewhere"],
)
def test_what_describes_no_api_is_said_in_one_line(content: bytes, expected: str) -> None:
    with pytest.raises(UnreadableDescriptionError, match=re.escape(expected)):
        changes(read_description(content), DOCUMENT)


@pytest.mark.integration
def test_the_command_compares_with_this_application(app: Litestar, tmp_path: Path) -> None:
    litestar, old = CommandLine(app), tmp_path / "old.json"
    assert litestar("openapi", "export", str(old)) == (0, "")
    assert litestar("openapi", "diff", str(old)) == (0, "No changes, 0 breaking.\n")

    document = json.loads(old.read_text())
    document["paths"]["/api/v1/gone"] = {"get": {"responses": {"200": {"description": "It was."}}}}
    old.write_text(json.dumps(document))

    assert litestar("openapi", "diff", str(old)) == (
        1,
        "breaking  GET /api/v1/gone: It is gone.\n1 change, 1 breaking.\n",
    )
    assert [change["is_breaking"] for change in litestar.items("openapi", "diff", str(old))] == [True]


@pytest.mark.integration
def test_the_description_that_is_exported_is_the_one_in_the_repository(app: Litestar) -> None:
    assert CommandLine(app)("openapi", "export")[1].rstrip() == (CHECKOUT / "openapi.json").read_text().rstrip()


@pytest.mark.integration
@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (["openapi", "export", "/dev/null/openapi.json"], "Error: /dev/null/openapi.json: not a directory."),
        (["openapi", "diff", "/dev/null"], "Error: /dev/null: This is not JSON"),
    ],
    ids=["export", "diff"],
)
def test_files_that_cannot_be_used_are_one_line(command: list[str], expected: str, app: Litestar) -> None:
    code, line = CommandLine(app)(*command)

    assert (code, line[: len(expected)]) == (1, expected)
