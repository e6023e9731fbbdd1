import logging
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import trustme
from requests import adapters

from app.lib.outgoing import Outgoing, ProviderUnavailableError, is_public
from tests import fake_provider
from tests.fake_provider import Answer, FakeProvider

pytestmark = pytest.mark.unit

LOCAL = Outgoing(allow_private_addresses=True, allow_http=True, seconds=0.6)


@pytest.fixture
def server() -> Iterator[FakeProvider]:
    with FakeProvider() as server:
        yield server


@pytest.mark.parametrize("address", ["93.184.216.34", "2606:4700::1111", "64:ff9b::5db8:d822", "::ffff:93.184.216.34"])
def test_addresses_of_the_internet_are_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.9.9.9", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254"),
        *("100.64.0.1", "224.0.0.1", "239.1.1.1", "255.255.255.255", "198.18.0.1", "192.0.2.1", "192.0.0.192"),
        "168.63.129.16",
        *("::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "ff02::1", "ff0e::1", "2001:db8::1"),
        *("::ffff:127.0.0.1", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:7f00:1::", "2001:0:7f00:1::"),
    ],
)
def test_other_addresses_are_not_in_whatever_disguise(address: str) -> None:
    assert not is_public(address)


def test_json_is_read(server: FakeProvider) -> None:
    assert LOCAL.get_json(f"{server.url}/.well-known/openid-configuration")["issuer"] == server.issuer


@pytest.mark.parametrize(
    "answer",
    [
        *(fake_provider.answer_html, fake_provider.answer_too_much, fake_provider.answer_error),
        *(fake_provider.answer_deep, fake_provider.drip, fake_provider.drip_headers),
        *(fake_provider.redirect_to("http://169.254.169.254/latest"), fake_provider.redirect_to("/jwks")),
        fake_provider.answer_json({"packed": True}, 201),
        lambda handler: handler.raw(b"not json"),
        lambda handler: handler.raw(b"\x1f\x8b", **{"Content-Encoding": "gzip"}),
        lambda handler: handler.raw(b"{}", media_type="text/plain"),
        lambda handler: handler.wfile.write(b"not http\r\n\r\n"),
        lambda handler: handler.wfile.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{"
        ),
        lambda _: None,
    ],
)
def test_whatever_else_comes_is_one_error_in_bounded_time(
    server: FakeProvider, answer: Answer, caplog: pytest.LogCaptureFixture
) -> None:
    server.answers["/x"] = answer
    began = time.monotonic()

    with caplog.at_level(logging.WARNING), pytest.raises(ProviderUnavailableError) as refusal:
        LOCAL.get_json(f"{server.url}/x?secret=sesame")

    assert time.monotonic() - began < 1.5
    assert refusal.value.detail == ProviderUnavailableError.detail
    assert "/x" in caplog.text
    assert "sesame" not in caplog.text
    assert "/jwks" not in server.requests


def test_nobody_on_the_other_side_is_the_same_error() -> None:
    with pytest.raises(ProviderUnavailableError):
        LOCAL.get_json("http://127.0.0.1:9/x")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "2130706433", "0x7f.1", "0"])
def test_a_private_address_is_not_called_whatever_its_name(server: FakeProvider, host: str) -> None:
    outgoing = Outgoing(allow_http=True)
    port = server.url.rpartition(":")[2]

    with pytest.raises(ProviderUnavailableError):
        outgoing.get_json(f"http://{host}:{port}/jwks")

    assert server.requests == []


def test_the_address_that_was_looked_at_is_the_one_that_is_called(
    server: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter(["93.184.216.34", "127.0.0.1"])
    asked: list[str] = []

    def rebinding(host: str, port: int, **_: object) -> list[Any]:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (next(answers), port))]

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    monkeypatch.setattr(socket.socket, "connect", lambda *_: (_ for _ in ()).throw(OSError("unreachable")))

    with pytest.raises(ProviderUnavailableError):
        Outgoing(allow_http=True).get_json(f"{server.url.replace('127.0.0.1', 'rebinding.example')}/jwks")

    assert asked == ["rebinding.example"]


def test_without_permission_only_tls_is_spoken(server: FakeProvider) -> None:
    with pytest.raises(ProviderUnavailableError):
        Outgoing(allow_private_addresses=True).get_json(f"{server.url}/jwks")

    assert server.requests == []


@pytest.mark.parametrize(
    ("url", "is_acceptable"),
    [
        ("https://id.example.com/token", True),
        ("http://id.example.com/token", False),
        ("file:///etc/passwd", False),
        ("https:///token", False),
        ("https://id.example.com:x/", False),
        ("https://[::1/", False),
        ("https://id.example.com/\n", False),
        (None, False),
    ],
)
def test_an_endpoint_is_a_https_url(url: object, *, is_acceptable: bool) -> None:
    assert Outgoing().is_acceptable(url) is is_acceptable


def test_nothing_is_taken_from_the_environment(server: FakeProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")

    assert LOCAL.get_json(f"{server.url}/jwks")["keys"]


def test_a_certificate_of_another_name_is_refused() -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("somebody-else.example").configure_cert(context)
    listener = socket.create_server(("127.0.0.1", 0))

    def shake() -> None:
        line, _ = listener.accept()
        try:
            context.wrap_socket(line, server_side=True).close()
        except OSError:  # the client hung up
            line.close()

    thread = threading.Thread(target=shake, daemon=True)
    thread.start()
    with pytest.raises(ProviderUnavailableError):
        Outgoing(allow_private_addresses=True).get_json(f"https://127.0.0.1:{listener.getsockname()[1]}/")
    thread.join(5)
    listener.close()


def test_tls_is_spoken_with_the_name_and_not_with_the_address(
    server: FakeProvider, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("id.example").configure_cert(context)
    authority.cert_pem.write_to_path(tmp_path / "authorities.pem")
    server.serve_with(context)
    resolve = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda _, port, **options: resolve("127.0.0.1", port, **options))
    monkeypatch.setattr(adapters, "DEFAULT_CA_BUNDLE_PATH", str(tmp_path / "authorities.pem"))
    port = server.url.rpartition(":")[2]

    outgoing = Outgoing(allow_private_addresses=True)

    assert outgoing.get_json(f"https://id.example:{port}/jwks")["keys"]
    with pytest.raises(ProviderUnavailableError):
        outgoing.get_json(f"https://another.example:{port}/jwks")


def test_a_handshake_that_never_ends_is_cut() -> None:
    listener = socket.create_server(("127.0.0.1", 0))  # the kernel accepts, and nobody speaks
    began = time.monotonic()

    with pytest.raises(ProviderUnavailableError):
        Outgoing(allow_private_addresses=True, seconds=0.5).get_json(f"https://127.0.0.1:{listener.getsockname()[1]}/")

    assert time.monotonic() - began < 1.5
    listener.close()


def test_guarded_sessions_refuse_redirections_also_when_asked_to_follow_them(server: FakeProvider) -> None:
    server.answers["/x"] = fake_provider.redirect_to("/jwks")

    with LOCAL.guard(requests.Session()) as session, pytest.raises(ProviderUnavailableError):
        session.get(f"{server.url}/x", allow_redirects=True)
