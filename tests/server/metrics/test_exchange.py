"""What several processes have counted, as one. Each exchange stands for a process: the kernel tells them apart."""

import errno
import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from app.server.metrics import metrics
from app.server.metrics.exchange import MetricsExchange, Snapshot
from app.server.metrics.metrics import Figure, Metrics
from app.server.metrics.server import serving_metrics
from tests.live import free_port

pytestmark = pytest.mark.unit


class Process:
    def __init__(self, directory: Path, *, lag: float = 1.0) -> None:
        self.counted = Metrics()
        self._lag = lag
        self.counted.sources.append(self._figures)
        self.exchange = MetricsExchange(directory, self.counted)
        self.exchange.join()

    def _figures(self) -> list[Figure]:
        """As `server.figures` has them."""
        return [(metrics.PROCESSES, ("api",), 1), (metrics.FEED_LAG, ("events",), self._lag)]

    def count(self) -> None:
        """As a request does: nobody is told yet."""
        self.counted.begin_request()
        self.counted.end_request("GET", "/items", 200, 0.02)

    def serve(self) -> None:
        self.count()
        self.exchange.publish()

    def end(self) -> None:
        self.exchange.publish()
        self.exchange.leave()

    def die(self) -> None:
        """As of kill -9: the kernel lets go of its lock, and nothing else happens."""
        assert self.exchange._alive is not None
        os.close(self.exchange._alive)

    @property
    def seen(self) -> dict[str, float]:
        """By whoever scrapes this process."""
        samples = [sample for family in self.exchange.collect() for sample in family.samples]
        return {",".join([each.name, *each.labels.values()]): each.value for each in samples}


def requests(seen: dict[str, float]) -> float:
    return seen["keel_http_requests_total,GET,/items,200"]


def test_counters_and_gauges_are_added_up_and_of_a_lag_the_longest_counts(tmp_path: Path) -> None:
    one, other = Process(tmp_path, lag=0.5), Process(tmp_path, lag=7.0)
    one.serve()
    other.serve()
    other.serve()

    for process in (one, other):
        assert requests(process.seen) == 3
        assert process.seen["keel_http_request_seconds_count,GET,/items"] == 3
        assert process.seen["keel_http_request_seconds_bucket,GET,/items,0.01"] == 0
        assert process.seen["keel_http_request_seconds_bucket,GET,/items,0.025"] == 3
        assert process.seen["keel_processes,api"] == 2
        assert process.seen["keel_event_feed_lag_seconds,events"] == 7.0


def test_counters_never_go_down_whichever_process_answers(tmp_path: Path) -> None:
    one, other = Process(tmp_path), Process(tmp_path)
    one.serve()
    one.count()
    other.count()

    assert [requests(process.seen) for process in (one, other, one)] == [2, 3, 3]


def test_what_is_published_after_the_end_counts_nothing_twice(tmp_path: Path) -> None:
    stays, goes = Process(tmp_path), Process(tmp_path)
    goes.serve()
    goes.end()
    assert requests(stays.seen) == 1

    goes.exchange.publish()

    assert requests(stays.seen) == 1


@pytest.mark.parametrize("end", [Process.die, Process.end], ids=["killed", "in order"])
def test_of_a_process_that_has_ended_the_counters_stay_and_the_gauges_go(
    end: Callable[[Process], None], tmp_path: Path
) -> None:
    stays, goes = Process(tmp_path), Process(tmp_path)
    goes.serve()
    end(goes)

    for _ in range(2):  # its figures are moved once
        assert requests(stays.seen) == 1
        assert stays.seen["keel_processes,api"] == 1


def test_a_hundred_processes_leave_no_more_behind_than_one(tmp_path: Path) -> None:
    stays = Process(tmp_path)
    for _ in range(100):
        goes = Process(tmp_path)
        goes.serve()
        goes.die()
    seen = stays.seen

    assert requests(seen) == 100
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [
        "",
        ".alive",
        ".figures",
        ".figures",
    ]  # the sums, and its own


def test_the_first_process_starts_from_nothing(tmp_path: Path) -> None:
    earlier = Process(tmp_path)
    earlier.serve()
    earlier.die()

    assert "keel_http_requests_total,GET,/items,200" not in Process(tmp_path).seen


def test_what_another_version_has_written_is_passed_over(tmp_path: Path) -> None:
    process, other = Process(tmp_path), Process(tmp_path)
    process.serve()
    other.serve()
    (tmp_path / f"{other.exchange._name}.figures").write_bytes(b"\xc1 nothing that msgpack knows")

    assert requests(process.seen) == 1


def test_a_full_disk_is_said_once_and_costs_nothing_but_news(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_space(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    process, other = Process(tmp_path), Process(tmp_path)
    other.serve()
    with monkeypatch.context() as full:
        full.setattr(Path, "write_bytes", no_space)
        other.serve()
        other.serve()

        assert requests(process.seen) == requests(other.seen) == 1
    assert requests(process.seen) == 1
    assert requests(other.seen) == requests(process.seen) == 3
    assert [record.getMessage() for record in caplog.records] == [
        f"metrics cannot be written to {tmp_path}: No space left on device"
    ] * 2  # each process says it


def test_a_scrape_on_a_full_disk_still_counts_the_dead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    stays, goes = Process(tmp_path), Process(tmp_path)
    goes.serve()
    goes.die()
    monkeypatch.setattr(Path, "write_bytes", no_space)

    assert requests(stays.seen) == 1


def test_methods_and_paths_that_somebody_makes_up_are_one_series() -> None:
    counted = Metrics()
    for number in range(100):
        counted.begin_request()
        counted.end_request(f"ODD{number}", None, 404, 0.1)

    assert counted.rows()["keel_http_requests"] == [(("other", "unknown", "404"), [100])]


def test_a_version_with_other_buckets_is_passed_over(tmp_path: Path) -> None:
    process, other = Process(tmp_path), Process(tmp_path)
    process.serve()
    rows = [(("GET", "/items"), [1.0, 2.0])]
    strange: dict[str, Any] = {
        "keel_http_request_seconds": rows,
        "keel_http_requests": [(("GET",), [1.0])],
        "keel_of_yore": rows,
    }
    (tmp_path / f"{other.exchange._name}.figures").write_bytes(msgspec.msgpack.encode(Snapshot(strange)))

    assert process.seen["keel_http_request_seconds_count,GET,/items"] == 1
    assert requests(process.seen) == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "192.0.2.1"], ids=["file in the way", "no such address"])
def test_what_keeps_the_metrics_from_being_served_is_one_line_and_the_process_goes_on(
    host: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    directory = tmp_path / "metrics"
    if host == "127.0.0.1":
        directory.write_text("a file")
    exchange = MetricsExchange(directory, Metrics())

    with caplog.at_level(logging.ERROR), serving_metrics(exchange, host=host, port=free_port(), refresh=lambda: None):
        pass

    assert len(caplog.records) == 1


def test_a_figure_that_cannot_be_had_is_said_and_the_answer_is_500(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> list[Figure]:
        raise RuntimeError("no figure")

    counted, port = Metrics(), free_port()
    counted.sources.append(broken)
    exchange = MetricsExchange(tmp_path, counted)
    with serving_metrics(exchange, host="127.0.0.1", port=port, refresh=lambda: None):
        assert httpx.get(f"http://127.0.0.1:{port}/metrics").status_code == 500

    assert "metrics could not be collected" in caplog.text


def test_a_figure_that_is_waited_for_does_not_hold_up_the_end(tmp_path: Path) -> None:
    is_answered = threading.Event()

    def ask() -> None:
        is_answered.wait(8)

    stays, goes = Process(tmp_path), Metrics()
    began = time.monotonic()
    with serving_metrics(MetricsExchange(tmp_path, goes), host="127.0.0.1", port=free_port(), refresh=ask):
        goes.begin_request()
        goes.end_request("GET", "/items", 200, 0.02)
        [publishing] = [thread for thread in threading.enumerate() if thread.name == "keel-metrics"]

    assert time.monotonic() - began < 5
    assert requests(stays.seen) == 1
    is_answered.set()
    publishing.join()
    assert requests(stays.seen) == 1
