"""A provider on loopback that says whatever a test wants it to say: OpenID Connect, and GitHub at its paths."""

import base64
import hashlib
import hmac
import json
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

from joserfc import jwt
from joserfc.jwk import ECKey, Key, KeySet, OctKey, RSAKey

from tests.live import free_port

CLIENT_ID = "keel"
CLIENT_SECRET = "the secret of keel at a fake provider"
KID = "key-1"
Answer = Callable[["Handler"], None]


class FakeProvider:
    """Honest until a test changes it: `claims` of the next id_token, `forge` to make it, `answers` by path."""

    def __init__(self, name: str = "fake") -> None:
        self._name = name
        self._server = ThreadingHTTPServer(("127.0.0.1", free_port()), Handler)
        self._server.daemon_threads = True
        self._server.provider = self  # type: ignore[attr-defined]  # for the handler
        self.url = self.issuer = f"http://127.0.0.1:{self._server.server_port}"
        self.key: Key = ECKey.generate_key("P-256", {"kid": KID, "use": "sig"})
        self.stopping = Event()
        self.reset()

    def reset(self) -> None:
        self.name = self._name
        self.person: dict[str, Any] = {"sub": uuid4().hex}
        self.claims: dict[str, Any] = {}
        self.userinfo: dict[str, Any] | None = None
        self.metadata: dict[str, Any] = {}
        self.token: dict[str, Any] = {}
        self.forge: Callable[[dict[str, Any]], str] = self.sign
        self.answers: dict[str, Answer] = {}
        self.requests: list[str] = []
        self._codes: dict[str, dict[str, str]] = {}

    @contextmanager
    def saying(self, **changes: Any) -> Iterator[None]:
        """With these attributes, for a while."""
        before = {name: getattr(self, name) for name in changes}
        vars(self).update(changes)
        try:
            yield
        finally:
            vars(self).update(before)

    def return_from(self, authorize_url: str, **changes: str | None) -> dict[str, str]:
        """Sign in and agree, as a browser would: the parameters with which it is sent back."""
        asked = {name: values[0] for name, values in parse_qs(urlsplit(authorize_url).query).items()}
        assert asked["code_challenge_method"] == "S256"
        code = uuid4().hex
        self._codes[code] = asked
        back = {"code": code, "state": asked["state"], "iss": self.issuer, **changes}
        return {name: value for name, value in back.items() if value is not None}

    def sign(self, claims: dict[str, Any], key: Key | None = None, **header: Any) -> str:
        return jwt.encode(
            {"alg": "ES256", "kid": KID, **header}, claims, key or self.key, algorithms=["ES256", "HS256"]
        )

    def sign_with_foreign_key(self, claims: dict[str, Any]) -> str:
        return self.sign(claims, ECKey.generate_key("P-256", {"kid": KID}))

    def sign_with_own_key_inside(self, claims: dict[str, Any]) -> str:
        key = ECKey.generate_key("P-256", {"kid": KID})
        return self.sign(claims, key, jwk=key.as_dict(private=False))

    def sign_with_public_key_as_secret(self, claims: dict[str, Any]) -> str:
        public = self.key.as_pem(private=False)  # type: ignore[union-attr]  # asymmetric keys have one
        signing = f"{_part({'alg': 'HS256', 'kid': KID})}.{_part(claims)}"
        signature = hmac.digest(public, signing.encode(), hashlib.sha256)
        return f"{signing}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"

    def sign_with_client_secret(self, claims: dict[str, Any]) -> str:
        return self.sign(claims, OctKey.import_key(CLIENT_SECRET), alg="HS256")

    def leave_unsigned(self, claims: dict[str, Any]) -> str:
        return f"{_part({'alg': 'none'})}.{_part(claims)}."

    def discovery(self) -> dict[str, Any]:
        return {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "jwks_uri": f"{self.url}/jwks",
            "userinfo_endpoint": f"{self.url}/userinfo",
            "id_token_signing_alg_values_supported": ["none", "HS256", "ES256"],
            "authorization_response_iss_parameter_supported": True,
            **self.metadata,
        }

    def exchange(self, form: dict[str, str]) -> tuple[int, dict[str, Any]]:
        """A code works once, and with its verifier."""
        asked = self._codes.pop(form.get("code", ""), None)
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).decode().rstrip("=")
        is_ours = form.get("client_secret", CLIENT_SECRET) == CLIENT_SECRET
        if asked is None or asked["code_challenge"] != challenge or asked["redirect_uri"] != form["redirect_uri"]:
            return 400, {"error": "invalid_grant"}
        if not is_ours:
            return 401, {"error": "invalid_client"}
        now = int(time.time())
        claims = {"iss": self.issuer, "aud": CLIENT_ID, "iat": now, "exp": now + 300, **self.person}
        claims = {**claims, "nonce": asked.get("nonce"), **self.claims}
        id_token = self.forge({name: value for name, value in claims.items() if value is not None})
        return 200, {"access_token": "an access token", "token_type": "Bearer", "id_token": id_token, **self.token}

    def serve_with(self, context: ssl.SSLContext) -> None:
        """From now on with TLS, at the same port."""
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)

    def __enter__(self) -> Self:
        Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stopping.set()
        self._server.shutdown()
        self._server.server_close()


class Handler(BaseHTTPRequestHandler):
    @property
    def provider(self) -> FakeProvider:
        provider: FakeProvider = self.server.provider  # type: ignore[attr-defined]  # set above
        return provider

    def do_GET(self) -> None:
        self._answer(self.path.partition("?")[0], {})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self._answer(self.path, {name: values[0] for name, values in parse_qs(body).items()})

    def _answer(self, path: str, form: dict[str, str]) -> None:
        provider = self.provider
        provider.requests.append(path)
        if path in provider.answers:
            provider.answers[path](self)
        elif path == "/.well-known/openid-configuration":
            self.json(provider.discovery())
        elif path == "/jwks":
            self.json(KeySet([provider.key]).as_dict(private=False))
        elif path == "/userinfo":
            self.json(provider.userinfo or {"sub": provider.person["sub"]})
        elif path in {"/token", "/login/oauth/access_token"}:
            status, answer = provider.exchange(form)
            self.json(answer, status)
        else:
            self.json({"error": "not found"}, 404)

    def json(self, answer: Any, status: int = 200) -> None:
        self.raw(json.dumps(answer).encode(), status=status)

    def raw(self, body: bytes, *, status: int = 200, media_type: str = "application/json", **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        try:
            self.wfile.write(body)
        except OSError:  # the other side has heard enough
            return

    def log_message(self, *_: object) -> None:
        """Not to the terminal."""


def _part(value: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def answer_json(answer: Any, status: int = 200) -> Answer:
    return lambda handler: handler.json(answer, status)


def answer_html(handler: Handler) -> None:
    handler.raw(b"<html>Sign in to the hotel's network</html>", media_type="text/html")


def answer_too_much(handler: Handler) -> None:
    """What has been read when it is enough would be good JSON."""
    handler.raw(b'{"issuer": "x"}' + b" " * 10_000_000)


def answer_error(handler: Handler) -> None:
    handler.json({"error": "server_error"}, 500)


def answer_deep(handler: Handler) -> None:
    handler.raw(b"[" * 100_000)


def redirect_to(url: str) -> Answer:
    return lambda handler: handler.raw(b"{}", status=302, Location=url)


def drip(handler: Handler) -> None:
    """A byte now and then, for ever: no single read ever waits long."""
    handler.send_response(200)
    handler.send_header("Content-Type", "application/json")
    handler.end_headers()
    while not handler.provider.stopping.wait(0.2):
        try:
            handler.wfile.write(b" ")
        except OSError:
            return


def drip_headers(handler: Handler) -> None:
    while not handler.provider.stopping.wait(0.2):
        try:
            handler.wfile.write(b"H")
        except OSError:
            return


def rsa_key(bits: int) -> RSAKey:
    return RSAKey.generate_key(bits, {"kid": KID, "use": "sig"})
