"""What changed between two descriptions of an API, and what of it breaks clients: `openapi diff`."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from app.server.openapi.documents import Description, Schema, UnreadableDescriptionError
from app.server.openapi.schemas import Change, Place, SchemaComparison

METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
NAMES_IN_PATH = re.compile(r"\{([^}]*)\}")


def changes(old: Schema, new: Schema) -> list[Change]:
    """In the order of the old one. Raises UnreadableDescriptionError."""
    try:
        return list(dict.fromkeys(_Comparison(Description(old), Description(new)).run()))
    except (AttributeError, TypeError, KeyError) as error:
        raise UnreadableDescriptionError(f"This does not describe an API as OpenAPI 3 does: {error}.") from error


class _Comparison:
    def __init__(self, old: Description, new: Description) -> None:
        self._old = old
        self._new = new
        self._schemas = SchemaComparison(old, new)

    def run(self) -> Iterator[Change]:
        yield from self._compare_servers()
        yield from self._compare_schemes()
        before, after = _operations(self._old), _operations(self._new)
        for key, (name, old) in before.items():
            at = Place(name, is_request=True)
            if key not in after:
                yield at.broken("It is gone.")
            else:
                yield from self._compare_operations(name, old, after[key][1])
        for key, (name, _) in after.items():
            if key not in before:
                yield Place(name, is_request=True).harmless("It is new.")

    def _compare_servers(self) -> Iterator[Change]:
        at = Place("servers", is_request=True)
        before, after = ([each["url"] for each in of.document.get("servers", ())] for of in (self._old, self._new))
        yield from (at.broken(f"{url} is gone.") for url in before if url not in after)
        yield from (at.harmless(f"{url} is new.") for url in after if url not in before)

    def _compare_schemes(self) -> Iterator[Change]:
        """Ways to say who asks. Those that no operation takes any more are told of by the operations."""
        before, after = (of.document.get("components", {}).get("securitySchemes", {}) for of in (self._old, self._new))
        for name in before:
            ours, theirs = (_without_text(of.get(name, {})) for of in (before, after))
            if name in after and ours != theirs:
                yield Place(f"security {name}", is_request=True).broken("It is given in another way.")

    def _compare_operations(self, name: str, old: Schema, new: Schema) -> Iterator[Change]:
        at = Place(name, is_request=True)
        if old.get("operationId") != new.get("operationId"):
            said = (
                f"Its name was {old.get('operationId')} and is {new.get('operationId')}: generated clients call it so."
            )
            yield at.broken(said)
        if new.get("deprecated") and not old.get("deprecated"):
            yield at.harmless("It is deprecated.")
        yield from self._compare_ways_in(old, new, at)
        yield from self._compare_parameters(old, new, at)
        yield from self._compare_bodies(old.get("requestBody"), new.get("requestBody"), at)
        yield from self._compare_answers(old.get("responses", {}), new.get("responses", {}), at)

    def _compare_ways_in(self, old: Schema, new: Schema, at: Place) -> Iterator[Change]:
        before, after = _ways_in(self._old, old), _ways_in(self._new, new)
        for way in before:
            if not any(_asks_no_more(other, way) for other in after):
                yield at.broken(f"It no longer lets in who shows {_way_name(way)}.")
        for way in after:
            if not any(_asks_no_more(way, other) and _asks_no_more(other, way) for other in before):
                yield at.harmless(f"It lets in who shows {_way_name(way)}.")

    def _compare_parameters(self, old: Schema, new: Schema, at: Place) -> Iterator[Change]:
        before, after = self._parameters(self._old, old), self._parameters(self._new, new)
        for key, parameter in before.items():
            there = Place(f"{at.where}, {key[0]} parameter {parameter['name']}", is_request=True)
            if key not in after:
                yield there.broken("It is gone.")
            else:
                yield from self._compare_parameter(parameter, after[key], there)
        for key, parameter in after.items():
            if key not in before:
                there = Place(f"{at.where}, {key[0]} parameter {parameter['name']}", is_request=True)
                is_needed = parameter.get("required")
                yield there.broken("It is new, and required.") if is_needed else there.harmless("It is new.")

    def _compare_parameter(self, old: Schema, new: Schema, at: Place) -> Iterator[Change]:
        if new.get("required") and not old.get("required"):
            yield at.broken("It is required now.")
        if old.get("required") and not new.get("required"):
            yield at.harmless("It may be left out now.")
        for name in ("style", "explode"):
            if old.get(name) != new.get(name):
                yield at.broken(f"Its {name} is another one.")
        yield from self._schemas.compare(old.get("schema", {}), new.get("schema", {}), at)

    def _parameters(self, of: Description, operation: Schema) -> dict[tuple[str, str], Schema]:
        """By where they are and their name; those in the path by their place, for their names are nobody's concern."""
        found = {}
        for parameter in map(of.resolved, operation.get("parameters", ())):
            name = str(parameter["name"])
            if parameter["in"] == "path":
                name = str(operation["names in path"].index(name)) if name in operation["names in path"] else name
            elif parameter["in"] == "header":
                name = name.lower()
            found[str(parameter["in"]), name] = parameter
        return found

    def _compare_bodies(self, old: Schema | None, new: Schema | None, at: Place) -> Iterator[Change]:
        there = Place(f"{at.where}, body", is_request=True)
        if old is None or new is None:
            if new is not None:
                is_needed = self._new.resolved(new).get("required")
                yield there.broken("It is new, and required.") if is_needed else there.harmless("It is new.")
            elif old is not None:
                yield there.broken("It is gone.")
            return
        old, new = self._old.resolved(old), self._new.resolved(new)
        if new.get("required") and not old.get("required"):
            yield there.broken("It is required now.")
        yield from self._compare_contents(old, new, there)

    def _compare_answers(self, old: Schema, new: Schema, at: Place) -> Iterator[Change]:
        for status, answer in old.items():
            there = Place(f"{at.where}, answer {status}", is_request=False)
            if status in new:
                yield from self._compare_answer(self._old.resolved(answer), self._new.resolved(new[status]), there)
            else:
                is_success = status.startswith(("2", "3"))
                yield there.broken("It is gone.") if is_success else there.harmless("It is gone.")
        for status in new:
            if status not in old:
                yield Place(f"{at.where}, answer {status}", is_request=False).harmless("It is new.")

    def _compare_answer(self, old: Schema, new: Schema, at: Place) -> Iterator[Change]:
        before, after = ({name.lower() for name in of.get("headers", {})} for of in (old, new))
        yield from (at.broken(f"The header {name} is gone.") for name in sorted(before - after))
        yield from (at.harmless(f"The header {name} is new.") for name in sorted(after - before))
        yield from self._compare_contents(old, new, at)

    def _compare_contents(self, old: Schema, new: Schema, at: Place) -> Iterator[Change]:
        """By media type."""
        before, after = old.get("content") or {}, new.get("content") or {}
        for media_type, content in before.items():
            if media_type not in after:
                yield at.broken(f"{media_type} is gone.")
            else:
                ours, theirs = content.get("schema") or {}, after[media_type].get("schema") or {}
                yield from self._schemas.compare(ours, theirs, at)
        yield from (at.harmless(f"{media_type} is new.") for media_type in after if media_type not in before)


def _operations(of: Description) -> dict[tuple[str, str], tuple[str, dict[str, Any]]]:
    """By method and path, without the names in it: what it is called, and itself with the parameters of its path."""
    found = {}
    for path, referred in of.document.get("paths", {}).items():
        item = of.resolved(referred)
        for method in METHODS:
            if method in item:
                parameters = [*item.get("parameters", ()), *item[method].get("parameters", ())]
                own = {"parameters": parameters, "names in path": NAMES_IN_PATH.findall(path)}
                key = (method, NAMES_IN_PATH.sub("{}", path))
                found[key] = (f"{method.upper()} {path}", {**item[method], **own})
    return found


def _ways_in(of: Description, operation: Schema) -> list[Mapping[str, list[str]]]:
    """One of them suffices, all of whose schemes are asked; an empty one is for everybody."""
    ways: list[Mapping[str, list[str]]] = operation.get("security", of.document.get("security")) or [{}]
    return ways


def _asks_no_more(way: Mapping[str, list[str]], than: Mapping[str, list[str]]) -> bool:
    return all(scheme in than and set(scopes) <= set(than[scheme]) for scheme, scopes in way.items())


def _way_name(way: Mapping[str, list[str]]) -> str:
    asked = [f"{scheme} with {', '.join(scopes)}" if scopes else scheme for scheme, scopes in way.items()]
    return " and ".join(asked) or "nothing"


def _without_text(scheme: Schema) -> dict[str, Any]:
    return {key: value for key, value in scheme.items() if key not in ("description", "bearerFormat")}
