"""What permissions are about: tables, and the attributes of their rows that rules may use."""

import functools
from collections.abc import Mapping
from typing import Any

import msgspec

from app.lib.access.expressions import ATTRIBUTE_TYPES
from app.lib.db.models import Model


class UnusableAttributeError(Exception):
    """A model lets rules use an attribute that it does not have, or that they cannot compare."""


@functools.cache
def models() -> Mapping[str, type[Model]]:
    """Every model by its resource: the name of its table. Call it when all are imported."""
    return {mapper.class_.__tablename__: mapper.class_ for mapper in Model.registry.mappers}


def check_attributes() -> None:
    """For the start. Raises UnusableAttributeError."""
    for model in models().values():
        _types_of(model)


@functools.cache
def attribute_types(resource: str) -> Mapping[str, type]:
    """What a rule on this resource may know of an object. Empty: it has no objects, or its services do not ask about
    each of them, as they must where the model names attributes."""
    model = models().get(resource)
    return _types_of(model) if model and model.access_attributes else {}


def attributes_of(row: Model) -> Mapping[str, Any]:
    """Plain values, as rules see them."""
    return {name: getattr(row, name) for name in ("id", *row.access_attributes)}


def typed(resource: str, values: Mapping[str, Any]) -> Mapping[str, Any]:
    """The attributes of an object as `attributes_of` gives them, from JSON. Those that are left out are None.

    Raises msgspec.ValidationError.
    """
    types = attribute_types(resource)
    return {name: msgspec.convert(values.get(name), kind | None) for name, kind in types.items()}


@functools.cache
def columns_of(model: type[Model]) -> Mapping[str, Any]:
    return {name: getattr(model, name) for name in ("id", *model.access_attributes)}


def _types_of(model: type[Model]) -> Mapping[str, type]:
    return {name: _type_of(model, name) for name in ("id", *model.access_attributes)}


def _type_of(model: type[Model], name: str) -> type:
    if name not in model.__table__.columns:
        raise UnusableAttributeError(f"{model.__name__}.{name}: there is no such column")
    found: type = model.__table__.columns[name].type.python_type
    if found not in ATTRIBUTE_TYPES:
        raise UnusableAttributeError(f"{model.__name__}.{name}: rules do not know {found.__name__}")
    return found
