import msgspec
import pytest

from app.lib.schema import Line, Phone

pytestmark = pytest.mark.unit

PHONE = "+44 20 7946 0000"


@pytest.mark.parametrize("text", ["", "Zoë Brontë", "東京", "a\u00a0b", "👩‍👩‍👧", PHONE])
def test_a_line_is_any_text_that_is_one(text: str) -> None:
    assert msgspec.convert(text, Line) == text


@pytest.mark.parametrize("text", ["a\nb", "a\n", "\n", "a\r", "a\0", "a\u2028b", "a\u202eb", "a\x85", "a\x1b[31m"])
def test_what_breaks_a_line_or_turns_it_around_is_refused(text: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(text, Line)


@pytest.mark.parametrize("text", [f"{PHONE}\n", "\n12345", "12", "12345x", "1" * 33])
def test_a_telephone_number_is_digits_and_what_stands_between_them(text: str) -> None:
    assert msgspec.convert(PHONE, Phone) == PHONE
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(text, Phone)
