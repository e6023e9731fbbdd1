"""An e-mail address in the one form in which it is stored and compared."""

import unicodedata

from email_validator import EmailNotValidError, validate_email

from app.lib.errors import InvalidInputError

MAX_LENGTH = 254
"""RFC 5321 section 4.5.3.1.3, less the angle brackets."""
ENCODED_WORD = "=?"
"""Allowed by RFC 5322, but mail programs decode what follows (RFC 2047): another address, or a line break."""


def canonical_email(text: str, *, field: str = "email") -> str:
    """Compatibility forms, upper case and international domains all lead to one spelling (ASVS 6.3.8).

    Names below `.test` are addresses, too (RFC 2606): whether mail arrives is for the verification mail to find out.
    Raises InvalidInputError when it is not an address.
    """
    plain = unicodedata.normalize("NFKC", text).strip()
    refusal = InvalidInputError("This is not an e-mail address.", field=field)
    if any(_is_invisible(char) for char in plain) or ENCODED_WORD in plain:
        raise refusal
    try:
        found = validate_email(plain, check_deliverability=False, test_environment=True)
    except EmailNotValidError as error:
        raise refusal from error
    return found.normalized.lower()


def _is_invisible(char: str) -> bool:
    """Format characters and variation selectors make two addresses that look the same."""
    return unicodedata.category(char) == "Cf" or "VARIATION SELECTOR" in unicodedata.name(char, "")
