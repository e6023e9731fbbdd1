"""Which new passwords are refused: short ones, common ones, and those made of what everybody knows of their owner."""

import functools
import itertools
import runpy
import unicodedata
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

from app.lib.errors import InvalidInputError

SHORTEST = 8
"""PASSWORD_MIN_LENGTH may not be less (NIST SP 800-63B section 3.1.1.2)."""
LONGEST = 1024
SHORTEST_LOCAL_PART = 4
"""What stands before the @ is a word that counts when it has as many characters: `j@example.com` forbids little."""


PATTERNS_BELOW = 16
LONGEST_BLOCK = 4
"""Characters that are repeated in a password of fewer than PATTERNS_BELOW."""


class PasswordPolicy:
    """No composition rules (ASVS 6.2.5): what is refused is what would be guessed first."""

    def __init__(self, *, min_length: int, project_name: str) -> None:
        self.min_length = min_length
        self._project_name = project_name

    def check(self, password: str, *, email: str = "", names: Iterable[str] = (), field: str = "password") -> None:
        """Raises InvalidInputError, which says why. `email` and `names` are those of whoever is going to have it.

        Looks at nothing else, so that the answer tells nothing of who has an account.
        """
        refusal = self._refusal(unicodedata.normalize("NFC", password), email=email, names=names)
        if refusal:
            raise InvalidInputError(refusal, field=field)

    def _refusal(self, password: str, *, email: str, names: Iterable[str]) -> str | None:
        if any(char == "\0" or unicodedata.category(char) == "Cs" for char in password):
            return "The password contains a character that cannot be typed."
        if len(password) < self.min_length:
            return f"Use at least {self.min_length} characters."
        if len(password) > LONGEST:
            return f"Use at most {LONGEST} characters."
        if password.casefold() in common_passwords() or _is_pattern(password.casefold()):
            return "This is one of the passwords that are guessed first. Choose another one."
        local_part = email.partition("@")[0]
        if len(local_part) < SHORTEST_LOCAL_PART:
            local_part = ""
        if _is_made_of(password.casefold(), words=_words(local_part, self._project_name, *names)):
            return f"Do not make the password of your name, your address or {self._project_name}."
        return None


@functools.cache
def common_passwords() -> frozenset[str]:
    """Of zxcvbn's list, those that are long enough to be refused for nothing else.

    The file is read alone: importing zxcvbn would keep all its dictionaries in memory, 15 MiB of them.
    """
    package = find_spec("zxcvbn")
    assert package is not None
    assert package.origin is not None
    lists = runpy.run_path(str(Path(package.origin).with_name("frequency_lists.py")))["FREQUENCY_LISTS"]
    return frozenset(word for word in map(str.casefold, lists["passwords"]) if len(word) >= SHORTEST)


def _is_pattern(password: str) -> bool:
    """`aaaaaaaa`, `12341234`, `87654321`: as common, but left out of the list, because zxcvbn finds them by rules."""
    if len(password) >= PATTERNS_BELOW:
        return False
    steps = {ord(second) - ord(first) for first, second in itertools.pairwise(password)}
    length = len(password)
    repeats = any((password[:size] * length)[:length] == password for size in range(1, LONGEST_BLOCK + 1))
    return repeats or steps in ({1}, {-1})


def _words(*texts: str) -> list[str]:
    """The longest first, so that none hides a longer one."""
    words = {
        word
        for text in texts
        for word in "".join(char if char.isalnum() else " " for char in _plain(text)).split()
        if any(map(str.isalpha, word))
    }
    return sorted(words, key=len, reverse=True)


def _is_made_of(password: str, *, words: list[str]) -> bool:
    """Nothing but these words, digits and punctuation. One pass for each word, whatever they are."""
    rest = _plain(password)
    for word in words:
        rest = rest.replace(word, " ")
    return rest != _plain(password) and not any(map(str.isalpha, rest))


def _plain(text: str) -> str:
    return unicodedata.normalize("NFC", text).casefold()
