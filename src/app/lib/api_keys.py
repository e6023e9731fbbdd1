"""API keys as text: what they look like, so that scanners find those that leak."""

import re
import secrets
import string
import zlib

PREFIX = "keel_"
PATTERN = "keel_[0-9A-Za-z]{39}"
"""For secret scanners. `is_well_formed` also checks the checksum, which leaves one false alarm in 2^32."""
ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
RANDOM = 33
"""Characters, which have 196 random bits."""
CHECKSUM = 6
"""Characters, which hold a CRC-32 of the random ones."""
SHOWN = len(PREFIX) + 6
"""Characters that may be shown and stored, to tell keys apart; 160 bits remain secret."""

_FORM = re.compile(PATTERN)


def new_api_key() -> str:
    random = "".join(secrets.choice(ALPHABET) for _ in range(RANDOM))
    return f"{PREFIX}{random}{_checksum(random)}"


def is_well_formed(key: str) -> bool:
    """We could have made it. Whatever cannot be a key is refused without a query."""
    return bool(_FORM.fullmatch(key)) and key[-CHECKSUM:] == _checksum(key[len(PREFIX) : -CHECKSUM])


def _checksum(random: str) -> str:
    number, digits = zlib.crc32(random.encode()), ""
    for _ in range(CHECKSUM):
        number, digit = divmod(number, len(ALPHABET))
        digits = ALPHABET[digit] + digits
    return digits
