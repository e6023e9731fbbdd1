"""What being watched costs a request: servers beside each other, one of them plain, asked in turns.

    .venv/bin/python -m benchmarks.observability

It starts a PostgreSQL of its own and takes about a minute. What counts is the share of the processor's time that a
request takes more than at the plain server in the same round: other work on the machine slows all of them. It needs
Linux.
"""

import operator
import statistics
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
from advanced_alchemy.alembic.commands import AlembicCommands
from sqlalchemy import URL, make_url

from app.server.plugins import alchemy_config
from app.server.postgres.embedded import EmbeddedPostgres
from tests.live import LiveServer, free_port

ROUNDS, REQUESTS = 24, 150


class Candidate:
    """One server, signed in to, and what a request has cost in each round."""

    def __init__(self, name: str, url: URL, directory: Path, **settings: Any) -> None:
        self.name = name
        self.server = LiveServer(url, log=directory / f"{name}.log", local_dir=directory / name, **settings)
        self.server.start()
        self.client = self.server.client()
        email = self.server.sign_up()
        self.client.headers["Authorization"] = f"Bearer {self.server.sign_in(email)['access_token']}"
        self.rounds: dict[str, list[float]] = {"GET": [], "POST": []}
        self._process = psutil.Process(self.server.process_id).children()[0]

    def measure(self, method: str) -> None:
        body = {"title": "Tea"} if method == "POST" else None
        before = self._used()
        for _ in range(REQUESTS):
            self.client.request(method, "/items", json=body).raise_for_status()
        self.rounds[method].append((self._used() - before) / REQUESTS)

    def _used(self) -> float:
        """Microseconds of the processor, by thread: the times of a whole process come in steps of 10 ms."""
        threads = Path(f"/proc/{self._process.pid}/task").glob("*/schedstat")
        return sum(int(each.read_text().split()[0]) for each in threads) / 1000


def show(candidates: list[Candidate]) -> None:
    plain = candidates[0]
    for method in plain.rounds:
        for each in candidates:
            figure = statistics.median(each.rounds[method])
            more = statistics.median(map(operator.truediv, each.rounds[method], plain.rounds[method])) - 1
            print(f"{method:5} /items  {each.name:10} {figure:8.0f} us of processor  {more:+7.1%}")


def main() -> None:
    with tempfile.TemporaryDirectory() as made, ExitStack() as stack:
        directory = Path(made)
        postgres = stack.enter_context(EmbeddedPostgres(directory / "postgres", durable=False))
        url = make_url(postgres.url())
        AlembicCommands(alchemy_config(url)).upgrade()
        candidates = []
        for name, settings in VARIANTS.items():
            candidates.append(candidate := Candidate(name, url, directory, **settings))
            stack.callback(candidate.server.stop)
            stack.callback(candidate.client.close)
        for number in range(ROUNDS):
            for method in ("GET", "POST"):
                for candidate in candidates[number % 4 :] + candidates[: number % 4]:
                    candidate.measure(method)
        show(candidates)


VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "metrics": {"metrics_port": free_port()},
    "traces": {"otel_exporter_otlp_endpoint": "http://127.0.0.1:4318", "otel_traces_sampler": "parentbased_always_on"},
    "1 %": {
        "otel_exporter_otlp_endpoint": "http://127.0.0.1:4318",
        "otel_traces_sampler": "parentbased_traceidratio",
        "otel_traces_sampler_arg": "0.01",
    },
}
"""Without a collector: sending is not part of a request."""

if __name__ == "__main__":
    main()
