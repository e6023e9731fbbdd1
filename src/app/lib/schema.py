"""What crosses HTTP: msgspec Structs."""

from typing import Annotated, Any, Self

from msgspec import UNSET, Meta, Struct, UnsetType, convert

__all__ = ["LINE", "UNSET", "Line", "Schema", "Text", "UnsetType"]

LINE = r"^[^\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]*$(?!\n)"
"""Python's `$` also matches before a last line break, unlike that of JavaScript."""

# PostgreSQL cannot store NUL, and nobody types one.
Line = Annotated[str, Meta(pattern=LINE)]
"""One line: no control characters, line separators or changes of the writing direction."""
Text = Annotated[str, Meta(pattern=r"^[^\x00]*$")]
"""Any text without NUL."""


class Schema(Struct, forbid_unknown_fields=True, kw_only=True):
    """Unknown fields are refused, so that a misspelt or forbidden field is an error and never ignored."""

    @classmethod
    def of(cls, row: Any) -> Self:
        """Copy the fields of the same names from a row."""
        return convert(row, cls, from_attributes=True)
