"""Calls to other people's servers: only to public addresses, only for JSON, and never for long."""

import logging
import socket
import threading
import time
from collections.abc import Callable
from contextlib import closing
from http import HTTPStatus
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

from requests import PreparedRequest, Response, Session
from requests.adapters import HTTPAdapter
from requests.exceptions import RequestException
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import HTTPError, NewConnectionError

from app.lib.errors import ApplicationError

CALL_SECONDS = 5.0
"""For a whole call, from the first packet to the last byte of the answer. Only the name server may take longer."""
CONNECT_SECONDS = 3.0
MAX_ANSWER = 1024 * 1024
"""Bytes."""
TRANSLATED = IPv6Network("64:ff9b::/96")
"""IPv4 behind a translator (RFC 6052): the address that counts is in the last four bytes."""
OF_THE_CLOUD = (IPv4Network("192.0.0.0/24"), IPv4Network("168.63.129.16/32"))
"""Metadata of Oracle and Azure, at addresses that Python takes for public."""

logger = logging.getLogger(__name__)
SessionT = TypeVar("SessionT", bound=Session)


class ProviderUnavailableError(ApplicationError):
    """Somebody else's server did not answer as it should. The reason is in the log and nowhere else."""

    detail = "The other service does not answer. Try again later."


class Outgoing:
    """`guard` makes a session of `requests` obey the rules; every failure is a ProviderUnavailableError.

    Call only while the thread holds no database connection: before the first statement of a unit of work, or
    between two of them. `allow_http` and `allow_private_addresses` are for providers on this machine or network.
    """

    def __init__(
        self, *, allow_private_addresses: bool = False, allow_http: bool = False, seconds: float = CALL_SECONDS
    ) -> None:
        self.allow_http = allow_http
        self._allow_private_addresses = allow_private_addresses
        self._seconds = seconds

    def guard(self, session: SessionT) -> SessionT:
        """For one thread. Neither proxies nor passwords are taken from the environment."""
        session.trust_env = False
        session.adapters.clear()
        adapter = _GuardedAdapter(allow_private_addresses=self._allow_private_addresses, seconds=self._seconds)
        for scheme in ("https://", *(["http://"] if self.allow_http else [])):
            session.mount(scheme, adapter)
        return session

    def get_json(self, url: str, *, bearer: str | None = None) -> Any:
        """What is found there. Raises ProviderUnavailableError also for any status but 200."""
        headers = {"Accept": "application/json"} | ({"Authorization": f"Bearer {bearer}"} if bearer else {})
        with self.guard(Session()) as session:
            try:
                response = session.get(url, headers=headers)
                found = response.json()
            except (RequestException, RecursionError) as error:  # RecursionError: JSON of a thousand brackets
                raise refuse(url, type(error).__name__) from error
        if response.status_code != HTTPStatus.OK:
            raise refuse(url, f"status {response.status_code}")
        return found

    def is_acceptable(self, url: object) -> bool:
        """May it be called, or a browser be sent there? Its address is looked at when it is called."""
        if not isinstance(url, str) or not url.isascii() or not url.isprintable():
            return False
        try:
            parts = urlsplit(url)
            has_host = bool(parts.hostname) and parts.port != 0
        except ValueError:
            return False
        return has_host and parts.scheme in ({"https", "http"} if self.allow_http else {"https"})


def refuse(url: str, reason: str) -> ProviderUnavailableError:
    """The error, once the reason is in the log. Query strings are not: they may hold a secret."""
    logger.warning("a call to %s failed: %s", ascii(urlsplit(url)._replace(query="", fragment="").geturl()), reason)
    return ProviderUnavailableError()


def is_public(address: str) -> bool:
    """Routed in the Internet. Not loopback, private, link-local (cloud metadata), shared (RFC 6598), multicast, or
    any of these in the disguise of IPv6."""
    ip: IPv4Address | IPv6Address = ip_address(address)
    if isinstance(ip, IPv6Address):
        if ip in TRANSLATED:
            ip = IPv4Address(int(ip) & 0xFFFFFFFF)
        elif ip.sixtofour or ip.teredo:
            return False
        else:
            ip = ip.ipv4_mapped or ip
    return ip.is_global and not ip.is_multicast and not any(ip in network for network in OF_THE_CLOUD)


class _Deadline:
    """Cuts the connections of one call when its time is over: however slowly something drips, reading ends."""

    def __init__(self, seconds: float) -> None:
        self._at = time.monotonic() + seconds
        self._timer = threading.Timer(seconds, self._cut)
        self._timer.daemon = True
        self._lock = threading.Lock()
        self._lines: list[socket.socket] = []

    @property
    def remaining(self) -> float:
        return max(0.0, self._at - time.monotonic())

    def watch(self, line: socket.socket) -> None:
        """A duplicate is kept: the original is soon wrapped in TLS, and belongs to others."""
        with self._lock:
            self._lines.append(line.dup())
        if not self.remaining:
            self._cut()

    def _cut(self) -> None:
        with self._lock:
            for line in self._lines:
                try:
                    line.shutdown(socket.SHUT_RDWR)
                except OSError:  # closed already
                    continue

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        with self._lock:
            for line in self._lines:
                line.close()
            self._lines.clear()


class _GuardedAdapter(HTTPAdapter):
    """Reads the whole answer while it looks at size and time. Follows no redirections: it refuses them."""

    def __init__(self, *, allow_private_addresses: bool, seconds: float) -> None:
        super().__init__(max_retries=0)
        self._allow_private_addresses = allow_private_addresses
        self._seconds = seconds
        self._deadline = _Deadline(seconds)
        self.poolmanager.pool_classes_by_scheme = _pools(self._connect)

    def send(self, request: PreparedRequest, *_: Any, **__: Any) -> Response:
        request.headers["Accept-Encoding"] = "identity"  # what is small when packed may be large
        request.headers["Connection"] = "close"
        url = request.url or ""
        try:
            with _Deadline(self._seconds) as self._deadline:
                response = super().send(request, stream=True, timeout=(CONNECT_SECONDS, self._seconds))
                with closing(response.raw):
                    content = response.raw.read(MAX_ANSWER + 1, decode_content=False)
                is_late = not self._deadline.remaining
        except (RequestException, HTTPError, OSError, ValueError) as error:
            raise refuse(url, _reason(error)) from error
        finally:
            self.poolmanager.clear()
        if fault := "took too long" if is_late else _fault(response, content):
            raise refuse(url, fault)
        response._content = content  # noqa: SLF001  # as reading it would
        response._content_consumed = True  # type: ignore[attr-defined]  # noqa: SLF001  # as reading it would
        return response

    def _connect(self, connection: HTTPConnection) -> socket.socket:
        """To an address that was looked at, and not to one that the name has a moment later (DNS rebinding)."""
        host, port = connection.host, connection.port
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        if not self._allow_private_addresses and not all(is_public(str(address[0])) for *_, address in found):
            raise NewConnectionError(connection, "its address is not public")
        failure: OSError | None = None
        for family, kind, protocol, _, address in found:
            line = socket.socket(family, kind, protocol)
            line.settimeout(min(CONNECT_SECONDS, self._deadline.remaining) or 0.001)
            try:
                line.connect(address)
            except OSError as error:
                line.close()
                failure = error
                continue
            self._deadline.watch(line)
            line.settimeout(self._seconds)
            return line
        raise NewConnectionError(connection, f"cannot connect: {failure}")


def _pools(connect: Callable[[HTTPConnection], socket.socket]) -> dict[str, Any]:
    """urllib3's, of connections that are made by `connect`. TLS is then spoken with the name, as usual."""

    class Plain(HTTPConnection):
        def _new_conn(self) -> socket.socket:
            return connect(self)

    class Secure(HTTPSConnection):
        def _new_conn(self) -> socket.socket:
            return connect(self)

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = Plain

    class SecurePool(HTTPSConnectionPool):
        ConnectionCls = Secure

    return {"http": PlainPool, "https": SecurePool}


def _fault(response: Response, content: bytes) -> str | None:
    media_type = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if 300 <= response.status_code < 400:
        return f"a redirection ({response.status_code})"
    if len(content) > MAX_ANSWER:
        return f"more than {MAX_ANSWER} bytes"
    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
        return "an encoding that was not asked for"
    if media_type != "application/json" and not (
        media_type.startswith("application/") and media_type.endswith("+json")
    ):
        return f"status {response.status_code} and no JSON"
    return None


def _reason(error: BaseException) -> str:
    """The innermost cause says most, and holds no header or body."""
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__  # type: ignore[assignment]  # one of them is there
    return f"{type(error).__name__}: {error}"[:200]
