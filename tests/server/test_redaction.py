"""No secret in a log: neither ours, nor one that somebody sent, in whatever a library says of it."""

import contextlib
import json
import logging
import time
from collections.abc import Iterator
from typing import Any, NoReturn

import pytest
import structlog

from app.lib.api_keys import new_api_key
from app.lib.passwords import Passwords
from app.lib.random_secrets import new_secret
from app.lib.settings import Settings
from app.server.logs import configure_logging
from app.server.redaction import MASK, Redaction

pytestmark = pytest.mark.unit

SECRET = "Tr0ub4dor&3-horse"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl"


@pytest.fixture
def configured(settings: Settings) -> Settings:
    return settings.model_copy(
        update={
            "log_format": "json",
            "database_url": "postgresql://keel:p%40ss%2Fword@db.test/keel",
            "smtp_password": "the secret of the post",
            "otel_exporter_otlp_endpoint": "http://keel:collector's key@collector.test",
            "storage_url": "s3://id:bucket's key@files",
        }
    )


@pytest.fixture
def redaction(configured: Settings) -> Redaction:
    return Redaction(configured)


@pytest.fixture(autouse=True)
def restore(settings: Settings) -> Iterator[None]:
    yield
    configure_logging(settings)


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("no route to postgresql+psycopg://keel:s/c:t@db:5432/keel", f"no route to postgresql+psycopg://keel:{MASK}@db:5432/keel"),
        ("redis://:sesame@cache:6379/0", f"redis://:{MASK}@cache:6379/0"),
        ("Authorization: Basic QWxhZGRpbjpvcGVu\nHost: x", f"Authorization: {MASK}\nHost: x"),
        ("redis://:p@sesame@cache:6379/0", f"redis://:{MASK}@cache:6379/0"),
        ("Cookie: keel-access=a; theme=b", f"Cookie: {MASK}"),
        ("[(b'host', b'x'), (b'authorization', b'Bearer abc')]", f"[(b'host', b'x'), (b'authorization', b'{MASK}"),
        (r'{"password": "a\"horse", "name": "Ada"}', f'{{"password": {MASK}, "name": "Ada"}}'),
        (r'said \"password\": \"horse\", and \"Ada\"', rf'said \"password\": {MASK}, and \"Ada\"'),
        ("GET /file?X-Amz-Signature=abc&pwd=b", f"GET /file?X-Amz-Signature={MASK}"),
        ("the collector's key and the bucket's key", f"the {MASK} and the {MASK}"),
        ("sent Bearer abcdefghijklmnop to it", f"sent Bearer {MASK} to it"),
        ('{"password": "correct horse", "name": "Ada"}', f'{{"password": {MASK}, "name": "Ada"}}'),
        ("{'new_password': 'correct horse', 'name': 'Ada'}", f"{{'new_password': {MASK}, 'name': 'Ada'}}"),
        ("GET /callback?token=abc&next=/", f"GET /callback?token={MASK}"),
        ("client_secret=a&b;c, please", f"client_secret={MASK} please"),
        (f"the token is {JWT}.", f"the token is {MASK}"),
        ("-----BEGIN RSA PRIVATE KEY-----\nabc\n-----END RSA PRIVATE KEY-----!", f"{MASK}!"),
        ("p@ss/word, p%40ss%2Fword and the secret of the post", f"{MASK}, {MASK} and {MASK}"),
        ("a test key, which is long enough to be one", MASK),
    ],
    ids=lambda text: "".join(filter(str.isalnum, text))[:24],
)  # fmt: skip
def test_what_looks_like_a_secret_or_is_one_of_ours_is_masked(text: str, masked: str, redaction: Redaction) -> None:
    assert redaction.mask(text) == masked


def test_what_we_hand_out_is_masked(redaction: Redaction) -> None:
    key, secret = new_api_key(), new_secret()
    hashed = Passwords(concurrency=1).hash(SECRET)

    assert redaction.mask(f"{key} {secret} {hashed}") == f"{MASK} {MASK} {MASK}"


@pytest.mark.parametrize(
    "text",
    [
        "the password is wrong",
        "Basic authentication is not offered",
        "GET /api/v1/items/0198f0de-7d8f-7000-8000-000000000000",
        "test_a_function_whose_name_is_longer_than_a_secret_of_ours",
        "connection to 127.0.0.1:5432 refused, http://localhost:8000/docs",
    ],
    ids=lambda text: text[:16],
)
def test_what_is_none_is_left_alone(text: str, redaction: Redaction) -> None:
    assert redaction.mask(text) == text


def test_fields_with_the_name_of_a_secret_are_masked_at_any_depth(
    configured: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging(configured)
    structlog.get_logger("app").warning(
        "odd", password=SECRET, headers={"Cookie": SECRET, "Host": "x"}, tried=[{"api_key": SECRET}], attempts=3
    )

    text = capsys.readouterr().err
    line = json.loads(text)
    assert {name: line[name] for name in ("password", "headers", "tried", "attempts")} == {
        "password": MASK,
        "headers": {"Cookie": MASK, "Host": "x"},
        "tried": [{"api_key": MASK}],
        "attempts": 3,
    }


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_a_traceback_of_any_library_is_masked(
    log_format: str, configured: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging(configured.model_copy(update={"log_format": log_format}))
    try:
        with contextlib.ExitStack() as stack:
            stack.callback(_fail, RuntimeError(f"password={SECRET}"))
            _fail(OSError(f"postgresql://keel:{SECRET}@db/keel does not answer"))
    except RuntimeError:
        logging.getLogger("urllib3").exception("sent %s", {"Authorization": f"Bearer {JWT}"})

    text = capsys.readouterr().err
    assert SECRET not in text
    assert JWT not in text
    assert text.count(MASK) >= 3
    assert f"postgresql://keel:{MASK}@db/keel does not answer" in text


@pytest.mark.parametrize(
    "piece", ["a", "password", "://", "://a:", '"', "a1B", "-", "eyJ", "cookie ", "-----BEGIN ", "token='", "keel_"]
)
def test_a_long_line_of_an_attacker_takes_no_longer_than_others(piece: str, redaction: Redaction) -> None:
    text = (piece * 64_000)[:64_000]
    best: Any = min(_seconds(redaction, text) for _ in range(3))

    assert best < 0.3


def _fail(error: Exception) -> NoReturn:
    raise error


def _seconds(redaction: Redaction, text: str) -> float:
    began = time.process_time()
    redaction.mask(text)
    return time.process_time() - began
