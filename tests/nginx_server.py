"""A real nginx for tests, with the configuration of `deploy/nginx.conf`, on loopback."""

import os
import shutil
import signal
import ssl
import subprocess
from collections.abc import Mapping
from pathlib import Path

import httpx
import pytest
import trustme

from app.lib.settings import CHECKOUT
from tests.live import free_port, wait_until

CONFIGURATION = CHECKOUT / "deploy" / "nginx.conf"
NAME = "api.example.com"
MISSING = "no nginx on this machine: install it, for example with apt-get install nginx-light"
MAIN = """
daemon off;
worker_processes 2;
pid {directory}/nginx.pid;
error_log stderr warn;
{user}
events {{}}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    include {directory}/keel.conf;
}}
"""


class NginxServer:
    """`sockets`: where the groups really listen, by the path that the configuration has."""

    def __init__(self, directory: Path, sockets: Mapping[str, Path]) -> None:
        self.port = free_port()
        self._directory = directory
        self._authority = trustme.CA()
        certificate = self._authority.issue_cert(NAME)
        certificate.private_key_pem.write_to_path(directory / "key.pem")
        for pem in certificate.cert_chain_pems:
            pem.write_to_path(directory / "fullchain.pem", append=True)
        replacements = {
            "/etc/ssl/keel": str(directory),
            "listen 443 ": f"listen 127.0.0.1:{self.port} ",
            "listen 80;": f"listen 127.0.0.1:{free_port()};",
            **{f"unix:{name};": f"unix:{path};" for name, path in sockets.items()},
            **{f"unix:{name} ": f"unix:{path} " for name, path in sockets.items()},
        }
        configuration = CONFIGURATION.read_text()
        for old, new in replacements.items():
            configuration = configuration.replace(old, new)
        (directory / "keel.conf").write_text(configuration)
        user = "user root;" if os.geteuid() == 0 else ""  # else its processes could not reach the sockets
        (directory / "nginx.conf").write_text(MAIN.format(directory=directory, user=user))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        program = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin:/opt/homebrew/bin")
        if program is None:
            pytest.skip(MISSING)
        with (self._directory / "nginx.log").open("wb") as log:
            self._process = subprocess.Popen(
                [program, "-p", self._directory, "-c", self._directory / "nginx.conf"], stdout=log, stderr=log
            )
        wait_until(self._answers, seconds=10, what=self.log)

    def log(self) -> str:
        return (self._directory / "nginx.log").read_text()

    def client(self, *, address: str = "127.0.0.1") -> httpx.Client:
        """Comes from `address`, which is one of loopback."""
        context = ssl.create_default_context()
        self._authority.configure_trust(context)
        transport = httpx.HTTPTransport(verify=context, local_address=address)
        extensions = {"sni_hostname": NAME}

        def name_server(request: httpx.Request) -> None:
            request.extensions.update(extensions)

        return httpx.Client(
            transport=transport,
            base_url=f"https://127.0.0.1:{self.port}/api/v1",
            headers={"Host": NAME},
            timeout=30,
            event_hooks={"request": [name_server]},
        )

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(10)
            self._process = None

    def _answers(self) -> bool:
        try:
            with self.client() as client:
                client.get("/")
        except httpx.TransportError:
            return False
        return True
