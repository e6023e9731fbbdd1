"""Descriptions of APIs in OpenAPI 3, with references that can be followed, for `openapi diff`."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import unquote

import msgspec

Schema = Mapping[str, Any]

KINDS = {str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null", dict: "object"}
ANYTHING = "anything"
DEEPEST = 40


class UnreadableDescriptionError(ValueError):
    """It is no description of an API in JSON, or not a whole one. The text is one plain line."""


class Variant(NamedTuple):
    """One of the alternatives that a schema has: of one type. `reference`: by which it is known, empty for one that
    stands in its place."""

    kind: str
    name: str
    schema: Schema
    reference: str


class Description:
    """A description of an API, whose references can be followed."""

    def __init__(self, document: Schema) -> None:
        self.document = document

    def resolved(self, node: Schema) -> Schema:
        """Raises UnreadableDescriptionError."""
        for _ in range(DEEPEST):
            if "$ref" not in node:
                return node
            beside = {key: value for key, value in node.items() if key != "$ref"}
            node = {**self._referred(node["$ref"]), **beside}
        raise UnreadableDescriptionError(f"The reference {node['$ref']} leads to itself.")

    def variants(self, schema: Schema, reference: str = "", depth: int = 0) -> list[Variant]:
        reference = str(schema.get("$ref", reference))
        schema = self._merged(self.resolved(schema))
        alternatives = schema.get("oneOf") or schema.get("anyOf")
        if not alternatives:
            return list(_of_each_type(schema, reference))
        if depth > DEEPEST:
            raise UnreadableDescriptionError("Alternatives stand within alternatives without an end.")
        beside = {key: value for key, value in schema.items() if key not in ("oneOf", "anyOf", "title")}
        return [
            variant
            for each in alternatives
            for variant in self.variants({**beside, **self.resolved(each)}, str(each.get("$ref", "")), depth + 1)
        ]

    def _merged(self, schema: Schema) -> Schema:
        """Without `allOf`: all of its parts in one."""
        parts = [self._merged(self.resolved(part)) for part in schema.get("allOf", ())]
        if not parts:
            return schema
        whole = [*parts, {key: value for key, value in schema.items() if key != "allOf"}]
        merged = {key: value for part in whole for key, value in part.items()}
        merged["properties"] = {name: each for part in whole for name, each in part.get("properties", {}).items()}
        merged["required"] = sorted({name for part in whole for name in part.get("required", ())})
        return merged

    def _referred(self, reference: object) -> Schema:
        found: Any = self.document
        try:
            root, *steps = str(reference).split("/")
            for step in steps:
                found = found[unquote(step).replace("~1", "/").replace("~0", "~")]
        except (KeyError, TypeError):
            root = ""
        if root != "#" or not isinstance(found, dict):
            raise UnreadableDescriptionError(f"The reference {reference} leads nowhere in this file.")
        return found


def read_description(content: bytes) -> dict[str, Any]:
    """Raises UnreadableDescriptionError."""
    try:
        document = msgspec.json.decode(content)
    except msgspec.DecodeError as error:
        raise UnreadableDescriptionError(f"This is not JSON: {error}.") from error
    if not isinstance(document, dict) or not str(document.get("openapi", "")).startswith("3."):
        raise UnreadableDescriptionError("This does not describe an API in OpenAPI 3.")
    return document


def values_of(schema: Schema) -> list[Any] | None:
    if "const" in schema:
        return [schema["const"]]
    found: list[Any] | None = schema.get("enum")
    return found


def _of_each_type(schema: Schema, reference: str) -> Iterator[Variant]:
    types = schema.get("type")
    if types is None:
        types = _types_by_content(schema)
    for kind in [types] if isinstance(types, str) else types:
        name = reference.rpartition("/")[2] or str(schema.get("title", kind))
        yield Variant(kind, name if kind == "object" else kind, schema, reference)


def _types_by_content(schema: Schema) -> Sequence[str]:
    if "properties" in schema:
        return ["object"]
    if "items" in schema:
        return ["array"]
    values = values_of(schema)
    return sorted({KINDS.get(type(value), "array") for value in values}) if values else [ANYTHING]
