import pytest

from app.lib.errors import InvalidInputError
from app.lib.password_policy import LONGEST, PasswordPolicy, common_passwords

pytestmark = pytest.mark.unit

POLICY = PasswordPolicy(min_length=8, project_name="Keel")
SHORT, LONG = "Use at least 8 characters.", f"Use at most {LONGEST} characters."
COMMON = "This is one of the passwords that are guessed first. Choose another one."
KNOWN = "Do not make the password of your name, your address or Keel."
UNTYPED = "The password contains a character that cannot be typed."


@pytest.mark.parametrize(
    ("password", "refusal"),
    [
        ("seven77", SHORT),
        ("e\u0301" * 7, SHORT),  # seven characters in NFC
        ("x" * (LONGEST + 1), LONG),
        ("password", COMMON),
        ("PassWord1", COMMON),
        ("aaaaaaaa", COMMON),
        ("12341234", COMMON),
        ("12312312", COMMON),
        ("abcdefgh", COMMON),
        ("876543210", COMMON),
        ("lovelace1815", KNOWN),
        ("Ada-Lovelace", KNOWN),
        ("LOVELACELOVELACE", KNOWN),
        ("countess99", KNOWN),
        ("keel-keel-2026", KNOWN),
        ("nul\0nul\0nul", UNTYPED),
        ("half\ud800half", UNTYPED),
    ],
)
def test_a_refusal_says_why(password: str, refusal: str) -> None:
    with pytest.raises(InvalidInputError) as refused:
        POLICY.check(password, email="countess@example.com", names=("Ada", "Lovelace"))

    assert (refused.value.field, refused.value.message) == ("password", refusal)


@pytest.mark.parametrize(
    "password",
    [
        "8 chars.",
        "correct horse battery staple",
        "ada lovelace plays chess",
        "8374-2938-4837",
        "x" * 64,
        "x" * LONGEST,
        "abracadabra!?",
        "пароль из слов",
    ],
)
def test_all_else_is_accepted(password: str) -> None:
    POLICY.check(password, email="countess@example.com", names=("Ada", "Lovelace"))


def test_a_short_local_part_forbids_nothing() -> None:
    POLICY.check("bob-1815-bob", email="bob@example.com")


def test_a_hostile_name_costs_no_time() -> None:
    POLICY.check("a" * 1000 + "b", email="a@b.test", names=("a", "aa", "a " * 50))


def test_the_list_is_that_of_the_package() -> None:
    assert len(common_passwords()) > 10_000
    assert {"qwertyuiop", "iloveyou", "trustno1", "password123"} <= common_passwords()
