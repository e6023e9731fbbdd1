import re

import pytest

from app.lib.api_keys import PATTERN, SHOWN, is_well_formed, new_api_key

pytestmark = pytest.mark.unit


def test_every_key_is_new_well_formed_and_found_by_a_secret_scanner() -> None:
    keys = {new_api_key() for _ in range(100)}

    assert len(keys) == 100
    assert all(is_well_formed(key) for key in keys)
    assert all(re.findall(PATTERN, f'headers = {{"Authorization": "Bearer {key}"}}') == [key] for key in keys)


@pytest.mark.parametrize(
    "change",
    [
        lambda key: key[:-1],
        lambda key: key + "0",
        lambda key: key + "\n",
        lambda key: " " + key,
        lambda key: key.upper(),
        lambda key: key.replace("keel_", "kell_"),
        lambda key: key[:10] + ("a" if key[10] != "a" else "b") + key[11:],
        lambda key: key[:-1] + ("a" if key[-1] != "a" else "b"),
        lambda key: key[:10] + "é" + key[11:],
        lambda key: key[:10] + "٣" + key[11:],
        lambda _: "keel_" + "0" * 100_000,
        lambda _: "keel_",
        lambda _: "",
    ],
)
def test_what_we_could_not_have_made_is_no_key(change: object) -> None:
    key = new_api_key()
    assert callable(change)

    assert not is_well_formed(change(key))


def test_what_is_shown_does_not_give_the_key_away() -> None:
    key = new_api_key()

    assert len(key) - SHOWN - 6 == 27  # characters, 160 bits
