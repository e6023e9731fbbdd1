from base64 import urlsafe_b64decode, urlsafe_b64encode
from uuid import uuid4

import pytest

from app.lib.link_tokens import InvalidTokenError, LinkTokens

pytestmark = pytest.mark.unit

TOKENS = LinkTokens(secret="a test key, which is long enough to be one")


def test_a_token_names_its_row_and_is_the_same_each_time() -> None:
    row_id = uuid4()

    token = TOKENS.issue(row_id, purpose="verification")

    assert TOKENS.read(token, purpose="verification") == row_id
    assert token == TOKENS.issue(row_id, purpose="verification")


def forgeries() -> list[str]:
    token = TOKENS.issue(uuid4(), purpose="verification")
    content = urlsafe_b64decode(token)
    return [
        LinkTokens(secret="another key, which is long enough to be one").issue(uuid4(), purpose="verification"),
        TOKENS.issue(uuid4(), purpose="password_reset"),
        urlsafe_b64encode(uuid4().bytes + content[16:]).decode(),
        urlsafe_b64encode(content[:-1]).decode(),
        urlsafe_b64encode(content + b"\0").decode(),
        urlsafe_b64encode(content[:16]).decode(),
        token + "=",
        token + "\n",
        token.replace("-", "+").replace("_", "/")[:-1] + "+",
        "",
        "=",
        "é" * 64,
        "\0" * 64,
        "x",
    ]


@pytest.mark.parametrize("forged", forgeries(), ids=lambda _: "forged")
def test_anything_else_is_refused(forged: str) -> None:
    with pytest.raises(InvalidTokenError):
        TOKENS.read(forged, purpose="verification")
