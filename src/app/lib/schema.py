"""What crosses HTTP: msgspec Structs."""

from typing import Annotated, Any, Self

from msgspec import UNSET, Meta, Struct, UnsetType, convert

from app.lib.email_address import MAX_LENGTH
from app.lib.password_policy import LONGEST

__all__ = [
    "LINE",
    "UNSET",
    "Email",
    "Line",
    "Name",
    "NewPassword",
    "Password",
    "Phone",
    "Schema",
    "Text",
    "TotpCode",
    "UnsetType",
    "Word",
]

LINE = r"^[^\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]*$(?!\n)"
"""Python's `$` also matches before a last line break, unlike that of JavaScript."""

# PostgreSQL cannot store NUL, and nobody types one.
Line = Annotated[str, Meta(pattern=LINE)]
"""One line: no control characters, line separators or changes of the writing direction."""
Word = Annotated[Line, Meta(min_length=1, max_length=50)]
"""One that the application knows, such as the name of a resource."""
Text = Annotated[str, Meta(pattern=r"^[^\x00]*$")]
"""Any text without NUL."""
Email = Annotated[Line, Meta(min_length=3, max_length=MAX_LENGTH, examples=["ada@example.com"])]
Name = Annotated[Line, Meta(min_length=1, max_length=100, examples=["Ada"])]
Phone = Annotated[str, Meta(pattern=r"^\+?[0-9 ()./-]{5,32}$(?!\n)", examples=["+44 20 7946 0000"])]
Password = Annotated[str, Meta(max_length=LONGEST, examples=["correct horse battery staple"])]
"""One that is compared with what is stored."""
TotpCode = Annotated[str, Meta(max_length=64, examples=["123456"])]
"""A code of an authenticator app, or a recovery code."""
NewPassword = Annotated[str, Meta(max_length=LONGEST, examples=["correct horse battery staple"])]
"""Any characters, spaces included. `lib.password_policy` says what else is refused, in words for people."""


class Schema(Struct, forbid_unknown_fields=True, kw_only=True):
    """Unknown fields are refused, so that a misspelt or forbidden field is an error and never ignored."""

    @classmethod
    def of(cls, row: Any) -> Self:
        """Copy the fields of the same names from a row."""
        return convert(row, cls, from_attributes=True)
