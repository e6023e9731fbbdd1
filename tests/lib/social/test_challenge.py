import re

import pytest

from app.lib.social.challenge import challenge_of

pytestmark = pytest.mark.unit


def test_nonce_and_verifier_follow_from_the_state_for_who_has_the_key_only() -> None:
    first, again = (challenge_of("state", secret="a", redirect_uri="/") for _ in range(2))
    others = [challenge_of("state", secret="b", redirect_uri="/"), challenge_of("other", secret="a", redirect_uri="/")]

    assert first == again
    assert len({each.nonce for each in (first, *others)} | {each.verifier for each in (first, *others)}) == 6
    assert re.fullmatch(r"[A-Za-z0-9_-]{43}", first.verifier)
