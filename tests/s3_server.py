"""A real S3-compatible service for tests: moto's, on loopback."""

import logging
from types import TracebackType
from typing import Self
from uuid import uuid4

import httpx
from moto.server import ThreadedMotoServer


class S3Server:
    """Keeps what it is given in memory, and checks no signatures."""

    def __init__(self) -> None:
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self._server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        self._is_running = False

    def __enter__(self) -> Self:
        self._server.start()
        self._is_running = True
        host, port = self._server.get_host_and_port()
        self.endpoint = f"http://{host}:{port}"
        self.bucket = f"{self.endpoint}/{uuid4().hex}"
        self.url = f"s3://{self.bucket.rpartition('/')[2]}/keel/files"
        httpx.put(self.bucket).raise_for_status()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        if self._is_running:
            self._is_running = False
            self._server.stop()

    @property
    def environment(self) -> dict[str, str]:
        """What the application reads."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": "keel",
            "AWS_SECRET_ACCESS_KEY": "sesame",
            "AWS_REGION": "eu-central-1",
        }

    def keys(self) -> list[str]:
        """What is in the bucket."""
        listing = httpx.get(self.bucket, params={"list-type": "2"}).raise_for_status().text
        return [part.partition("</Key>")[0] for part in listing.split("<Key>")[1:]]
