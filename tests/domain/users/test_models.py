import pytest

from tests.factories.users import UserFactory

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("last_name", "is_verified", "known"),
    [("Lovelace", True, "Ada Lovelace"), ("", True, "Ada"), ("Lovelace", False, "")],
)
def test_mails_address_whoever_has_proved_the_address_by_name(last_name: str, is_verified: bool, known: str) -> None:
    user = UserFactory.build(first_name="Ada", last_name=last_name, is_verified=is_verified)

    assert user.known_name == known
