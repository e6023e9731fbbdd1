import base64
import hashlib
import time
from collections.abc import Callable
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, Key, KeySet, OKPKey, RSAKey

from app.lib.social.id_token import Expected, UnbelievableTokenError, import_keys, verify_id_token
from tests.fake_provider import KID, FakeProvider, rsa_key

pytestmark = pytest.mark.unit

ISSUER, CLIENT = "https://id.example.com", "keel"
EXPECTED = Expected(
    issuer=ISSUER, client_id=CLIENT, nonce="n-0S6", access_token="jHkWEdUXMU1BwAsC4vtUsZwnNvTIxEl0z9K3vx5KF0Y"
)
provider = FakeProvider()
FAR = 10**18


def claims(**changes: Any) -> dict[str, Any]:
    now = int(time.time())
    honest = {"iss": ISSUER, "sub": "248289761001", "aud": CLIENT, "exp": now + 300, "iat": now, "nonce": "n-0S6"}
    return {name: value for name, value in {**honest, **changes}.items() if value is not ...}


def verify(token: str, *keys: Key) -> dict[str, Any]:
    document = KeySet(list(keys or [provider.key])).as_dict(private=False)
    return verify_id_token(token, keys=import_keys(document), expected=EXPECTED)


def half_hash(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()[:16]).decode().rstrip("=")


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"aud": [CLIENT]},
        {"azp": CLIENT},
        {"aud": [CLIENT, "another"], "azp": CLIENT},
        {"at_hash": half_hash(EXPECTED.access_token)},
        {"email_verified": "false", "more": {"than": "we know"}},
    ],
)
def test_an_honest_token_is_believed(changes: dict[str, Any]) -> None:
    assert verify(provider.sign(claims(**changes)))["sub"] == "248289761001"


def test_clocks_may_differ_by_half_a_minute() -> None:
    now = time.time()

    assert verify(provider.sign(claims(exp=now - 30)))["exp"] == now - 30
    assert verify(provider.sign(claims(iat=now + 30)))["iat"] == now + 30


@pytest.mark.parametrize(
    "changes",
    [
        *({name: ...} for name in ("iss", "sub", "aud", "exp", "iat", "nonce")),
        *({"iss": value} for value in ("https://evil.example", f"{ISSUER}/", ISSUER.upper(), [ISSUER], None)),
        *({"sub": value} for value in ("", "x" * 256, "a\nb", 7, None, ["x"])),
        *({"aud": value} for value in ("evil", [], ["evil"], "keel2", {"keel": 1}, None)),
        {"aud": "evil", "azp": CLIENT},
        {"aud": ["evil", "e2"], "azp": CLIENT},
        {"aud": [CLIENT, "evil"]},
        {"aud": [CLIENT, "evil"], "azp": "evil"},
        {"azp": "evil"},
        *({"exp": value} for value in (0, time.time() - 61, "9999999999", True, None, float("inf"), float("nan"))),
        *({"iat": value} for value in (time.time() + 3600, time.time() - 700, -FAR, FAR, "0", float("nan"))),
        *({"nonce": value} for value in ("", "n-0S7", ["n-0S6"], None)),
        *({"at_hash": value} for value in ("", half_hash("another"), 7)),
    ],
    ids="+".join,
)
def test_a_claim_that_is_wrong_or_missing_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(UnbelievableTokenError):
        verify(provider.sign(claims(**changes)))


@pytest.mark.parametrize(
    "forge",
    [
        provider.leave_unsigned,
        provider.sign_with_foreign_key,
        provider.sign_with_own_key_inside,
        provider.sign_with_public_key_as_secret,
        provider.sign_with_client_secret,
        lambda claims: provider.sign(claims, typ="at+jwt"),
        lambda claims: provider.sign(claims, typ="logout+jwt"),
        lambda claims: provider.sign(claims, kid="another"),
        lambda claims: provider.sign({**claims, "padding": "x" * 20_000}),
        lambda claims: provider.sign(claims)[:-4] + "AAAA",
        lambda claims: provider.sign(claims).replace(".", "", 1),
        lambda _: "",
        lambda _: "....",
        lambda _: "\ud800.x.y",
        lambda _: base64.urlsafe_b64encode(b"[" * 5000).decode() + ".e30.e30",
        lambda _: base64.urlsafe_b64encode(b'{"alg": ["ES256"], "kid": {}}').decode() + ".e30.e30",
        lambda _: base64.urlsafe_b64encode(b'{"alg": "ES256", "crit": ["x"], "x": 1}').decode() + ".e30.e30",
    ],
)
def test_a_signature_that_is_not_the_issuers_is_refused(forge: Callable[[dict[str, Any]], str]) -> None:
    with pytest.raises(UnbelievableTokenError):
        verify(forge(claims()))


@pytest.mark.filterwarnings("ignore:Key size")
@pytest.mark.parametrize("algorithm", ["RS256", "PS256"])
def test_rsa_is_believed_from_2048_bits_on(algorithm: str) -> None:
    strong, weak = rsa_key(2048), rsa_key(1024)

    assert verify(sign_with(strong, algorithm), strong)
    with pytest.raises(UnbelievableTokenError):
        verify(sign_with(weak, algorithm), weak)


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [
        (rsa_key(2048), "RS512"),
        (ECKey.generate_key("P-384", {"kid": KID}), "ES384"),
        (ECKey.generate_key("secp256k1", {"kid": KID}), "ES256K"),
    ],
)
def test_algorithms_that_are_not_on_our_list_are_refused_though_the_key_is_right(key: Key, algorithm: str) -> None:
    with pytest.raises(UnbelievableTokenError, match="algorithm"):
        verify(sign_with(key, algorithm), key)


@pytest.mark.filterwarnings("ignore:EdDSA is deprecated")
def test_eddsa_is_believed() -> None:
    key = OKPKey.generate_key("Ed25519", {"kid": KID})

    assert verify(sign_with(key, "EdDSA"), key)


def test_without_a_kid_every_key_of_the_kind_is_tried() -> None:
    other, ours = (ECKey.generate_key("P-256") for _ in range(2))
    token = jwt.encode({"alg": "ES256"}, claims(), ours)

    assert verify(token, other, ours)


def test_a_kid_that_nobody_knows_may_be_that_of_a_new_key() -> None:
    with pytest.raises(UnbelievableTokenError) as refusal:
        verify(provider.sign(claims(), kid="another"))

    assert refusal.value.might_be_new_key


@pytest.mark.parametrize(
    "document",
    [None, [], {}, {"keys": None}, {"keys": [None, 7, {}, {"kty": "oct", "k": "c2VjcmV0"}, {"kty": "RSA", "n": []}]}],
)
def test_keys_that_are_none_are_left_out(document: object) -> None:
    assert import_keys(document) == []


def test_keys_for_encryption_are_left_out() -> None:
    key = RSAKey.generate_key(2048, {"use": "enc"})

    assert import_keys(KeySet([key]).as_dict(private=False)) == []


def sign_with(key: Key, algorithm: str) -> str:
    return jwt.encode({"alg": algorithm, "kid": KID}, claims(), key, algorithms=[algorithm])
