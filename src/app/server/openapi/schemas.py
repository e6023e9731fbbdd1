"""Whether a value that one schema allows is allowed by another one, for `openapi diff`.

What clients send must stay allowed, so a request must not be narrowed; what they receive must stay what they know, so
an answer must not be widened. Everything else they can live with.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from msgspec import Struct

from app.server.openapi.documents import ANYTHING, Description, Schema, Variant, values_of

LOWER_BOUNDS = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
UPPER_BOUNDS = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
TEXTS = ("pattern", "format")
UNJUDGED = (
    *("not", "if", "then", "else", "multipleOf", "uniqueItems", "contains", "prefixItems", "patternProperties"),
    *("propertyNames", "dependentRequired", "dependentSchemas", "unevaluatedProperties", "unevaluatedItems"),
    *("contentEncoding", "contentMediaType"),
)
"""Keywords of JSON Schema that are compared as they stand: a change of one counts as breaking."""


class Change(Struct, frozen=True):
    """`where`: an operation, and what of it."""

    where: str
    what: str
    is_breaking: bool


class Place(NamedTuple):
    where: str
    is_request: bool

    def below(self, name: str) -> "Place":
        separator = ": " if ": " not in self.where else "" if name == "[]" else "."
        return Place(f"{self.where}{separator}{name}", self.is_request)

    def narrowed(self, what: str) -> Change:
        return Change(self.where, what, is_breaking=self.is_request)

    def widened(self, what: str) -> Change:
        return Change(self.where, what, is_breaking=not self.is_request)

    def broken(self, what: str) -> Change:
        return Change(self.where, what, is_breaking=True)

    def harmless(self, what: str) -> Change:
        return Change(self.where, what, is_breaking=False)


class SchemaComparison:
    def __init__(self, old: Description, new: Description) -> None:
        self._old = old
        self._new = new

    def compare(
        self, old: Schema, new: Schema, at: Place, seen: frozenset[tuple[str, str]] = frozenset()
    ) -> Iterator[Change]:
        """`seen`: the pairs of references that we stand in, for schemas may contain themselves."""
        if at.is_request and self._old.resolved(old).get("default") != self._new.resolved(new).get("default"):
            yield at.broken("Its default is another one, for those who leave it out.")
        yield from self._compare_variants(self._old.variants(old), self._new.variants(new), at, seen)

    def _compare_variants(
        self, olds: list[Variant], news: list[Variant], at: Place, seen: frozenset[tuple[str, str]]
    ) -> Iterator[Change]:
        pairs, gone, come = _paired(olds, news)
        takes_anything, took_anything = ANYTHING in _kinds(news), ANYTHING in _kinds(olds)
        for variant in gone:
            if takes_anything:
                yield at.widened(f"It may be anything now, not only {variant.name}.")
            else:
                yield at.narrowed(f"It is no longer {variant.name}.")
        for variant in come:
            if not takes_anything and not took_anything:
                yield at.widened(f"It may be {variant.name} now.")
        for one, other in pairs:
            references = (one.reference, other.reference)
            if all(references) and references in seen:
                continue
            yield from self._compare_pair(one, other, at, seen | {references})

    def _compare_pair(
        self, one: Variant, other: Variant, at: Place, seen: frozenset[tuple[str, str]]
    ) -> Iterator[Change]:
        if (one.kind, other.kind) == ("integer", "number"):
            yield at.widened("It may be a fraction now.")
        elif (one.kind, other.kind) == ("number", "integer"):
            yield at.narrowed("It is no longer a fraction.")
        yield from self._compare_values(one.schema, other.schema, at)
        yield from self._compare_properties(one.schema, other.schema, at, seen)
        yield from self._compare_parts(one.schema, other.schema, at, seen)

    def _compare_values(self, old: Schema, new: Schema, at: Place) -> Iterator[Change]:
        yield from _compare_enums(values_of(old), values_of(new), at)
        for name in LOWER_BOUNDS:
            yield from _compare_bounds(name, _negative(old.get(name)), _negative(new.get(name)), at)
        for name in UPPER_BOUNDS:
            yield from _compare_bounds(name, old.get(name), new.get(name), at)
        for name in TEXTS:
            yield from _compare_texts(name, old.get(name), new.get(name), at)
        for name in UNJUDGED:
            if old.get(name) != new.get(name):
                yield at.broken(f"Its {name} is another one.")

    def _compare_properties(
        self, old: Schema, new: Schema, at: Place, seen: frozenset[tuple[str, str]]
    ) -> Iterator[Change]:
        before, after = old.get("properties", {}), new.get("properties", {})
        needed_before, needed = set(old.get("required", ())), set(new.get("required", ()))
        for name in sorted(set(before) - set(after)):
            yield at.below(name).broken("It is gone.")
        for name in sorted(set(after) - set(before)):
            if at.is_request and name in needed:
                yield at.below(name).broken("It is new, and required.")
            else:
                yield at.below(name).harmless("It is new.")
        for name in sorted(set(before) & set(after)):
            there = at.below(name)
            if name in needed - needed_before:
                yield there.narrowed("It is required now." if at.is_request else "It is always there now.")
            if name in needed_before - needed:
                yield there.widened("It may be left out now.")
            yield from self.compare(before[name], after[name], there, seen)

    def _compare_parts(self, old: Schema, new: Schema, at: Place, seen: frozenset[tuple[str, str]]) -> Iterator[Change]:
        """Elements of arrays, and values of properties that have no name of their own."""
        if "items" in old or "items" in new:
            yield from self.compare(old.get("items", {}), new.get("items", {}), at.below("[]"), seen)
        others_before, others = old.get("additionalProperties", True), new.get("additionalProperties", True)
        if isinstance(others_before, Mapping) and isinstance(others, Mapping):
            yield from self.compare(others_before, others, at.below("*"), seen)
        elif at.is_request and others_before is not False and others is False:
            yield at.broken("Properties that have no name here are refused now.")
        elif at.is_request and others_before is False and others is not False:
            yield at.harmless("It takes other properties, too.")


def _paired(
    olds: list[Variant], news: list[Variant]
) -> tuple[list[tuple[Variant, Variant]], list[Variant], list[Variant]]:
    """Those that belong together, those that are gone, those that have come."""
    pairs: list[tuple[Variant, Variant]] = []
    gone, come = list(olds), list(news)
    for belong in (_are_same, _are_sole(olds, news), _are_numbers):
        for one in list(gone):
            other = next((each for each in come if belong(one, each)), None)
            if other:
                pairs.append((one, other))
                gone.remove(one)
                come.remove(other)
    return pairs, gone, come


def _are_same(one: Variant, other: Variant) -> bool:
    return (one.kind, one.name) == (other.kind, other.name)


def _are_sole(olds: list[Variant], news: list[Variant]) -> Any:
    """A schema that was renamed is still the same, when there is no other of its type."""
    before, after = _kinds(olds), _kinds(news)

    def are_sole(one: Variant, other: Variant) -> bool:
        return one.kind == other.kind and before.count(one.kind) == after.count(one.kind) == 1

    return are_sole


def _are_numbers(one: Variant, other: Variant) -> bool:
    return {one.kind, other.kind} == {"integer", "number"}


def _kinds(variants: list[Variant]) -> list[str]:
    return [variant.kind for variant in variants]


def _compare_enums(old: list[Any] | None, new: list[Any] | None, at: Place) -> Iterator[Change]:
    if old is None and new is not None:
        yield at.narrowed(f"It is only one of {_listed(new)} now.")
    elif new is None and old is not None:
        yield at.widened(f"It is no longer only one of {_listed(old)}.")
    elif old is not None and new is not None:
        if gone := [value for value in old if value not in new]:
            yield at.narrowed(f"It is no longer {_listed(gone)}.")
        if come := [value for value in new if value not in old]:
            yield at.widened(f"It may be {_listed(come)} now.")


def _listed(values: list[Any]) -> str:
    return ", ".join(map(str, values))


def _compare_bounds(name: str, old: float | None, new: float | None, at: Place) -> Iterator[Change]:
    """Of upper ones; lower ones come negated."""
    if old == new:
        return
    shown = f"Its {name} was {_shown(old)} and is {_shown(new)}."
    is_narrower = old is None or (new is not None and new < old)
    yield at.narrowed(shown) if is_narrower else at.widened(shown)


def _negative(bound: float | None) -> float | None:
    return None if bound is None else -bound


def _shown(bound: float | None) -> str:
    return "none" if bound is None else f"{abs(bound):g}"


def _compare_texts(name: str, old: str | None, new: str | None, at: Place) -> Iterator[Change]:
    if old and new and old != new:
        yield at.broken(f"Its {name} was {old} and is {new}.")
    elif new and not old:
        yield at.narrowed(f"Its {name} is {new} now.")
    elif old and not new:
        yield at.widened(f"It has no {name} any more.")
