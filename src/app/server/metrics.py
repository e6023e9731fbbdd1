"""What is counted and measured, under the names that Prometheus sees."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, NamedTuple

import saq
from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import Metric

METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
OUTCOMES: dict[saq.Status | None, str] = {
    saq.Status.COMPLETE: "complete",
    saq.Status.QUEUED: "queued again",
    saq.Status.FAILED: "failed",
}


class Family(NamedTuple):
    """`together` says how the values of several processes become one."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    meaning: str
    labels: tuple[str, ...] = ()
    buckets: Sequence[float] = ()
    together: Literal["sum", "max"] = "sum"


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


class Metrics:
    """What one process has counted since its start."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.in_progress = 0
        self.thread_wait = self._histogram(THREAD_WAIT)
        self._requests = self._counter(REQUESTS)
        self._request_seconds = self._histogram(REQUEST_SECONDS)
        self._routes: dict[tuple[str, str | None, int], tuple[Counter, Histogram]] = {}
        self._problems = self._counter(PROBLEMS)
        self._rate_limited = self._counter(RATE_LIMITED)
        self._audit_events = self._counter(AUDIT_EVENTS)
        self._jobs = self._counter(JOBS)
        self._job_seconds = self._histogram(JOB_SECONDS)
        self._job_wait = self._histogram(JOB_WAIT)

    def begin_request(self) -> None:
        self.in_progress += 1

    def end_request(self, method: str, route: str | None, status: int, seconds: float) -> None:
        """`route`: its template, which bounds how many there can be. Status 0: there was no answer."""
        self.in_progress -= 1
        key = (method, route, status)
        counter, histogram = self._routes.get(key) or self._of_route(key)
        counter.inc()
        histogram.observe(seconds)

    def note_problem(self, code: str) -> None:
        self._problems.labels(code).inc()

    def note_rate_limited(self, limit: str) -> None:
        self._rate_limited.labels(limit).inc()

    def note_audit_event(self, action: str, outcome: str, count: int) -> None:
        self._audit_events.labels(action, outcome).inc(count)

    def note_job(self, name: str, became: saq.Status | None, *, waited: float, seconds: float) -> None:
        """`became`: None when another worker has taken it."""
        self._jobs.labels(name, OUTCOMES.get(became, "taken")).inc()
        self._job_seconds.labels(name).observe(seconds)
        self._job_wait.labels(name).observe(max(0.0, waited))

    def _of_route(self, key: tuple[str, str | None, int]) -> tuple[Counter, Histogram]:
        """Anybody can make up methods, paths and so on: what no route answers is one."""
        method, route, status = key[0] if key[0] in METHODS else "other", key[1] or "unknown", str(int(key[2]))
        found = self._requests.labels(method, route, status), self._request_seconds.labels(method, route)
        if method != "other":
            self._routes[key] = found
        return found

    def _counter(self, family: Family) -> Counter:
        return Counter(family.name, family.meaning, family.labels, registry=self.registry)

    def _histogram(self, family: Family) -> Histogram:
        return Histogram(family.name, family.meaning, family.labels, registry=self.registry, buckets=family.buckets)


def families_of(figures: Iterable[Figure]) -> Iterator[Metric]:
    """As `prometheus_client` collects them."""
    found: dict[str, Metric] = {}
    for family, labels, value in figures:
        metric = found.setdefault(family.name, Metric(family.name, family.meaning, family.kind))
        name = f"{family.name}_total" if family.kind == "counter" else family.name
        metric.add_sample(name, dict(zip(family.labels, labels, strict=True)), value)
    yield from found.values()
