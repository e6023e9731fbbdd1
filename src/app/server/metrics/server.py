"""`GET /metrics` on a port of its own, shared by all processes of this machine."""

import contextlib
import functools
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from socketserver import TCPServer, ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry, make_wsgi_app

from app.server.metrics.exchange import MetricsExchange

PUBLISH_SECONDS = 2.0
CLIENT_SECONDS = 5.0
END_SECONDS = 1.0
CLIENTS = 8
"""At the same time. The port is for the operator's network; this bounds what anybody else there can take up."""

logger = logging.getLogger(__name__)


class _Handler(WSGIRequestHandler):
    timeout = CLIENT_SECONDS

    def log_message(self, format: str, *args: Any) -> None:
        """A scrape is not worth a line."""


class _Server(ThreadingMixIn, WSGIServer):
    """Several processes bind the same port, and the kernel chooses one for each connection."""

    allow_reuse_port = True
    daemon_threads = True

    def __init__(self, host: str, port: int) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._places = threading.BoundedSemaphore(CLIENTS)
        super().__init__((host, port), _Handler)

    def server_bind(self) -> None:
        """Without asking the DNS what this machine is called."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]
        self.setup_environ()

    def verify_request(self, request: Any, client_address: Any) -> bool:  # noqa: ARG002  (socketserver's signature)
        return self._places.acquire(blocking=False)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """A client that drips has no more time than one that is silent."""
        deadline = threading.Timer(CLIENT_SECONDS, _hang_up, [request])
        deadline.daemon = True
        deadline.start()
        try:
            super().process_request_thread(request, client_address)
        finally:
            deadline.cancel()
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is not worth one, either; our own errors are logged by `_answer`."""


def _hang_up(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):  # it has ended meanwhile
        connection.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def serving_metrics(exchange: MetricsExchange, *, host: str, port: int, refresh: Callable[[], None]) -> Iterator[None]:
    """Until the block ends, whose end may take two seconds. `refresh` runs in a thread before each publication.

    A machine that does not let us has no metrics, and says so: the application goes on.
    """
    try:
        exchange.join()
    except OSError as error:
        logger.error("no metrics: %s: %s", error.filename, error.strerror)  # noqa: TRY400  (the line says it all)
        yield
        return
    stopping = threading.Event()
    threads = [
        threading.Thread(target=_keep_publishing, args=(exchange, refresh, stopping), name="keel-metrics", daemon=True)
    ]
    server = _listen(exchange, host, port)
    if server:
        threads.append(threading.Thread(target=server.serve_forever, name="keel-metrics-server", daemon=True))
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stopping.set()
        if server:
            server.shutdown()
            server.server_close()
        threads[0].join(END_SECONDS)  # it may wait for a database that is away: then it is left behind
        _publish(exchange, lambda: None)
        exchange.leave()


def _listen(exchange: MetricsExchange, host: str, port: int) -> _Server | None:
    try:
        server = _Server(host, port)
    except OSError as error:
        logger.error("METRICS_PORT: cannot listen on %s:%s: %s", host, port, error.strerror)  # noqa: TRY400  (the line says it all)
        return None
    registry = CollectorRegistry()
    registry.register(exchange)
    server.set_app(functools.partial(_answer, make_wsgi_app(registry)))
    return server


def _answer(collect: Any, environ: Any, start_response: Any) -> Any:
    try:
        return collect(environ, start_response)
    except Exception:
        logger.exception("metrics could not be collected")
        start_response("500 Internal Server Error", [])
        return [b""]


def _keep_publishing(exchange: MetricsExchange, refresh: Callable[[], None], stopping: threading.Event) -> None:
    while not stopping.is_set():
        _publish(exchange, refresh)
        stopping.wait(PUBLISH_SECONDS)


def _publish(exchange: MetricsExchange, refresh: Callable[[], None]) -> None:
    try:
        refresh()
        exchange.publish()
    except Exception:  # a figure that cannot be had must neither end the thread nor keep the process from stopping
        logger.exception("metrics could not be published")
