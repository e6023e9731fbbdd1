"""What is counted and measured, under the names that Prometheus sees."""

import threading
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate
from typing import Literal, NamedTuple

import saq
from prometheus_client.core import Metric
from prometheus_client.utils import floatToGoString

METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
OUTCOMES: dict[saq.Status | None, str] = {
    saq.Status.COMPLETE: "complete",
    saq.Status.QUEUED: "queued again",
    saq.Status.FAILED: "failed",
}


class Family(NamedTuple):
    """`together` says how the values of several processes become one. `buckets`: their upper bounds."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    meaning: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    together: Literal["sum", "max"] = "sum"

    @property
    def width(self) -> int:
        """Numbers in a `Row`."""
        return len(self.buckets) + 2 if self.kind == "histogram" else 1


FAST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
SLOW = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)

PROCESSES = Family("keel_processes", "gauge", "Processes that live: `api` or `worker`.", ("kind",))
REQUESTS = Family(
    "keel_http_requests", "counter", "Requests by route template; `unknown` is none.", ("method", "route", "status")
)
REQUEST_SECONDS = Family(
    "keel_http_request_seconds", "histogram", "From the head of a request to the end of its answer.",
    ("method", "route"), FAST,
)  # fmt: skip
IN_PROGRESS = Family("keel_http_requests_in_progress", "gauge", "Requests that are not answered yet.")
PROBLEMS = Family("keel_problems", "counter", "Answers that are errors, by their `code`.", ("code",))
RATE_LIMITED = Family("keel_rate_limit_refusals", "counter", "Requests over a limit, by its class.", ("limit",))
THREADS = Family("keel_threads", "gauge", "Worker threads of all API processes.")
THREADS_BUSY = Family("keel_threads_busy", "gauge", "Of them, those in which a handler runs.")
THREADS_AWAITED = Family("keel_threads_awaited", "gauge", "Requests that wait for a worker thread.")
THREAD_WAIT = Family("keel_thread_wait_seconds", "histogram", "How long requests wait for a worker thread.", (), FAST)
GATE_INSIDE = Family("keel_gate_inside", "gauge", "Requests that hold a place at a gate.", ("gate",))
GATE_WAITING = Family("keel_gate_waiting", "gauge", "Requests that wait at a gate.", ("gate",))
POOL_SIZE = Family("keel_db_pool_size", "gauge", "Connections that the pools may have.", ("pool",))
POOL_IN_USE = Family("keel_db_pool_in_use", "gauge", "Connections that are checked out.", ("pool",))
FEED_LAG = Family(
    "keel_event_feed_lag_seconds", "gauge", "How long ago the slowest feed last knew itself complete.", ("feed",),
    together="max",
)  # fmt: skip
FEED_LOSSES = Family("keel_event_feed_losses", "counter", "How often a feed has lost its connection.", ("feed",))
CACHE_HITS = Family("keel_cache_hits", "counter", "Answers from the cache.", ("store",))
CACHE_MISSES = Family("keel_cache_misses", "counter", "Answers that had to be made.", ("store",))
CACHE_ERRORS = Family("keel_cache_errors", "counter", "Questions that Redis did not answer.", ("store",))
AUDIT_EVENTS = Family(
    "keel_audit_events", "counter", "What the audit log says was done: `session.created` is a sign-in.",
    ("action", "outcome"),
)  # fmt: skip
JOBS = Family("keel_jobs", "counter", "Attempts by what became of them.", ("name", "outcome"))
JOB_SECONDS = Family("keel_job_seconds", "histogram", "How long attempts run.", ("name",), SLOW)
JOB_WAIT = Family(
    "keel_job_wait_seconds", "histogram", "From the time a job is due, or enqueued, to its start.", ("name",), SLOW
)
QUEUE = Family(
    "keel_job_queue", "gauge", "Jobs in the queue: `due`, `later`, `active` or `dead`.", ("state",), together="max"
)
QUEUE_OLDEST = Family(
    "keel_job_queue_oldest_seconds", "gauge", "For how long the first of them has been due.", together="max"
)
JOB_WORKERS = Family("keel_job_workers", "gauge", "Workers that have lately been heard of.", together="max")

FAMILIES = {each.name: each for each in list(globals().values()) if isinstance(each, Family)}

Figure = tuple[Family, tuple[str, ...], float]
"""Of a counter or a gauge: the values of its labels, and its own."""
Row = list[float]
"""Of a counter or a gauge one number; of a histogram one for each bucket, one for what is in none, and their sum."""


class Metrics:
    """What one process has counted since its start, and `sources` of what it does not count but looks at.

    As plain numbers: `prometheus_client` takes several times as long to count, and to tell what it has counted.
    """

    def __init__(self) -> None:
        self.sources: list[Callable[[], Iterable[Figure]]] = []
        self.in_progress = 0
        self._rows: dict[Family, dict[tuple[str, ...], Row]] = {family: {} for family in FAMILIES.values()}
        self._counting = threading.Lock()

    def begin_request(self) -> None:
        self.in_progress += 1

    def end_request(self, method: str, route: str | None, status: int, seconds: float) -> None:
        """`route`: its template, which bounds how many there can be. Status 0: there was no answer.

        Anybody can make up methods and paths: what no route answers is one.
        """
        self.in_progress -= 1
        method, route = method if method in METHODS else "other", route or "unknown"
        self._add(REQUESTS, (method, route, str(int(status))))
        self._observe(REQUEST_SECONDS, (method, route), seconds)

    def note_thread_wait(self, seconds: float) -> None:
        self._observe(THREAD_WAIT, (), seconds)

    def note_problem(self, code: str) -> None:
        self._add(PROBLEMS, (code,))

    def note_rate_limited(self, limit: str) -> None:
        self._add(RATE_LIMITED, (limit,))

    def note_audit_event(self, action: str, outcome: str, count: int) -> None:
        self._add(AUDIT_EVENTS, (action, outcome), count)

    def note_job(self, name: str, became: saq.Status | None, *, waited: float, seconds: float) -> None:
        """`became`: None when another worker has taken it."""
        self._add(JOBS, (name, OUTCOMES.get(became, "taken")))
        self._observe(JOB_SECONDS, (name,), seconds)
        self._observe(JOB_WAIT, (name,), max(0.0, waited))

    def rows(self) -> dict[str, list[tuple[tuple[str, ...], Row]]]:
        """By the name of the family: the values of the labels, and the numbers."""
        with self._counting:
            found = {
                family.name: [(labels, row.copy()) for labels, row in rows.items()]
                for family, rows in self._rows.items()
            }
        for source in self.sources:
            for family, labels, value in source():
                found[family.name].append((labels, [value]))
        return found

    def _add(self, family: Family, labels: tuple[str, ...], amount: float = 1) -> None:
        with self._counting:
            rows = self._rows[family]
            if labels in rows:
                rows[labels][0] += amount
            else:
                rows[labels] = [amount]

    def _observe(self, family: Family, labels: tuple[str, ...], value: float) -> None:
        with self._counting:
            row = self._rows[family].get(labels)
            if row is None:
                row = self._rows[family][labels] = [0.0] * family.width
            row[bisect_left(family.buckets, value)] += 1
            row[-1] += value


def metric_of(family: Family, rows: Iterable[tuple[Sequence[str], Row]]) -> Metric:
    """As Prometheus reads it."""
    metric = Metric(family.name, family.meaning, family.kind)
    for values, row in rows:
        labels = dict(zip(family.labels, values, strict=True))
        if family.kind == "histogram":
            upper = [*map(floatToGoString, family.buckets), "+Inf"]
            counts = list(accumulate(row[:-1]))
            for bound, count in zip(upper, counts, strict=True):
                metric.add_sample(f"{family.name}_bucket", {**labels, "le": bound}, count)
            metric.add_sample(f"{family.name}_count", labels, counts[-1])
            metric.add_sample(f"{family.name}_sum", labels, row[-1])
        else:
            metric.add_sample(f"{family.name}_total" if family.kind == "counter" else family.name, labels, row[0])
    return metric
