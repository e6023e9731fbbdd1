"""Is the place free where the API shall listen? Granian would not notice that it is taken."""

import contextlib
import socket
import stat
from pathlib import Path


class ListenError(RuntimeError):
    """Nobody can listen there. The text is one plain line."""


def refuse_taken_port(host: str, port: int) -> None:
    """Raises ListenError. Granian sets SO_REUSEPORT, and two servers would share the port's requests."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError:
        raise ListenError(
            f"Cannot listen on {host}: there is no such address here. Choose another with --host."
        ) from None
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError as error:
            reason = error.strerror.lower() if error.strerror else str(error)
            raise ListenError(f"Cannot listen on {host}:{port}: {reason}. Choose another with --port.") from None


def refuse_port_of_metrics(port: int, metrics_port: int | None) -> None:
    """Raises ListenError. As `Settings` does for PORT, but `--port` may be another."""
    if port == metrics_port:
        raise ListenError(f"Cannot listen on port {port}: it is METRICS_PORT. Choose another with --port.")


def clear_socket(path: Path) -> None:
    """Remove the socket that a killed server left behind. Raises ListenError when one listens there, or it is no
    socket, or there is no such directory."""
    if not path.parent.is_dir():
        raise ListenError(f"Cannot listen on {path}: there is no directory {path.parent}.")
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise ListenError(f"Cannot listen on {path}: something else has this name.")
        with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(ConnectionRefusedError):
            probe.connect(str(path))
            raise ListenError(f"Cannot listen on {path}: another server does.")
        path.unlink()
    except FileNotFoundError:
        return
    except OSError as error:
        raise ListenError(f"Cannot listen on {path}: {error.strerror}.") from None
