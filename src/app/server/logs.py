"""Logging: one format for our lines and for those of every library, on standard error."""

import logging
import logging.config
import warnings
from collections.abc import MutableMapping
from typing import Any

import structlog

from app.lib.settings import Settings
from app.lib.tracing import trace_ids
from app.server.redaction import Redaction

JSON_TRACEBACKS = structlog.processors.ExceptionRenderer(
    structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
)
"""Local variables hold passwords, tokens and keys, so they stay out of every log."""


def add_trace(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    event.update(trace_ids())
    return event


SHARED: list[Any] = [
    structlog.contextvars.merge_contextvars,
    add_trace,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]


def configure_logging(settings: Settings) -> None:
    """`LOG_FORMAT=console` for people, `json` for machines: one line per event, control characters escaped, secrets
    masked."""
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *SHARED,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    logging.captureWarnings(capture=True)
    warnings.filterwarnings("ignore", module=r"PIL\.")  # of pictures whose EXIF data are broken, as many are
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {"line": {"()": line_formatter, "settings": settings}},
            "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
            "root": {"handlers": ["stderr"], "level": settings.log_level},
            "loggers": {
                "_granian": {"handlers": [], "propagate": True},  # the server we run in, which has begun to log already
                "alembic": {"level": "WARNING"},
                "advanced_alchemy": {"level": "WARNING"},
                "casbin": {"level": "ERROR"},  # it warns of every refusal, with what it knows of the object
                "psycopg.pool": {"level": "ERROR"},  # it tells of every attempt to connect; workers say it once
                "opentelemetry": {"level": "CRITICAL"},  # it tells of every batch; `server/tracing.py` says it once
                "saq": {"level": "WARNING"},
            },
        }
    )


def line_formatter(settings: Settings) -> logging.Formatter:
    """How a line of ours or of anybody looks."""
    is_json = settings.log_format == "json"
    render: Any = structlog.processors.JSONRenderer()
    if not is_json:
        render = structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=SHARED,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            *([JSON_TRACEBACKS] if is_json else [escape_event, structlog.processors.format_exc_info]),
            Redaction(settings),
            render,
        ],
    )


def escape_event(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """What somebody has put into a message neither begins a line nor paints the terminal. JSON does this itself."""
    text = str(event.get("event", ""))
    if not text.isprintable():
        event["event"] = "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)
    return event
