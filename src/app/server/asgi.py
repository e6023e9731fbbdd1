"""The application, put together. `create_app` is what Granian, the command line and the tests call."""

import functools
import gc

from litestar import Litestar, Router
from litestar.config.compression import CompressionConfig
from litestar.config.cors import CORSConfig
from litestar.datastructures import State
from litestar.plugins import PluginProtocol
from litestar_granian import GranianPlugin
from sqlalchemy import URL

from app.lib.access.control import AccessControl
from app.lib.access.guards import api_scopes, guarded_routes
from app.lib.access.resources import check_attributes
from app.lib.admission import check_gates
from app.lib.csrf import CSRF_HEADER
from app.lib.db.database import Database
from app.lib.events import EventFeed, deliver_to
from app.lib.mail.mailer import mail_folder
from app.lib.passwords import Passwords
from app.lib.rate_limits import check_rate_limits
from app.lib.settings import Settings
from app.lib.social.providers import configured_providers
from app.lib.tracing import trace_statements
from app.server.access import AccessInspection
from app.server.accounts import Accounts
from app.server.api_keys import ApiKeyring
from app.server.authentication import Authentication, RevokedSessions
from app.server.configuration import read_settings
from app.server.confirmation_pages import confirmation_pages
from app.server.controllers import CONTROLLERS
from app.server.dashboard import job_dashboard
from app.server.doctor.doctor import Doctor
from app.server.envelope import envelop
from app.server.errors import answer_error
from app.server.health import HealthController
from app.server.jobs import build_worker
from app.server.lifespan import gates, running
from app.server.logs import configure_logging
from app.server.mailbox import MAILBOX_PATH, MailboxController
from app.server.metrics.metrics import Metrics
from app.server.openapi.description import describe_access_and_errors, docs_assets, openapi_config
from app.server.plugins import MigrationsPlugin, alchemy_config
from app.server.policy import PolicyFollower
from app.server.postgres.embedded import EmbeddedPostgres, EmbeddedPostgresPlugin
from app.server.preparation import Preparation
from app.server.rate_limits import RATE_LIMIT_HEADERS, RateLimits
from app.server.request import StrictRequest, receive_form
from app.server.resources import access_tokens, build_cache, build_mailer, dependencies, session_cookies
from app.server.serving.drain import Drain
from app.server.tracing import Tracing

EXPOSED_HEADERS = [
    *("X-Request-ID", "Retry-After", "Server-Timing", "ETag", "Content-Range", "Content-Disposition", CSRF_HEADER),
    *RATE_LIMIT_HEADERS,
]
"""What scripts of other origins may read."""


def create_app(settings: Settings | None = None) -> Litestar:
    """Raises SystemExit, with one plain line per fault, when the settings cannot be read or are unsafe."""
    settings = settings or read_settings()
    configure_logging(settings)
    if url := settings.postgres_url:
        app = build_app(settings, url)
    else:
        embedded = EmbeddedPostgres(settings.local_dir / "postgres")
        app = build_app(settings, embedded.url(), embedded=embedded)
    gc.collect()
    gc.freeze()  # all this stays; to look through it again, in every full collection, would stop the process for 0.2 s
    return app


def build_app(settings: Settings, url: URL | str, *, embedded: EmbeddedPostgres | None = None) -> Litestar:
    """Connects to nothing: the pool fills with the first requests, the event feed starts with the lifespan."""
    tokens = access_tokens(settings)
    revoked = RevokedSessions(token_lifetime=tokens.lifetime)
    api_keys = ApiKeyring(is_limited=settings.rate_limit_enabled)
    cache = build_cache(settings)
    metrics = Metrics() if settings.metrics_port else None
    tracing = Tracing(settings) if settings.otel_exporter_otlp_endpoint else None
    access = AccessControl()
    policy = PolicyFollower(access, url)
    feed, cache_feed = EventFeed(url, revoked, api_keys), EventFeed(url, cache, name="keel-cache")
    policy_feed = EventFeed(url, policy, name="keel-policy-events")
    database = Database(
        url,
        pool_size=settings.db_pool_size,
        replica_urls=settings.replica_urls,
        echo=settings.db_echo,
        session_info={
            "deliver": deliver_to(feed, cache_feed, policy_feed),
            "access": access,
            "count_event": metrics.note_audit_event if metrics else None,
        },
    )
    if tracing:
        for engine in database.engines.values():
            trace_statements(engine, tracing)
    cookies = session_cookies(settings, tokens)
    authentication = Authentication(tokens, revoked, (feed, policy_feed), cookies, api_keys)
    passwords = Passwords(concurrency=settings.password_hash_concurrency)
    shows_mail = settings.app_env == "development"
    alchemy = alchemy_config(url)
    plugins: list[PluginProtocol] = [GranianPlugin(), MigrationsPlugin(alchemy, settings)]
    if embedded:
        plugins.append(EmbeddedPostgresPlugin(embedded, [database.engine, alchemy.get_engine()]))
    app = Litestar(
        route_handlers=[
            Router(settings.api_v1_prefix, route_handlers=CONTROLLERS),
            HealthController,
            docs_assets(settings),
            job_dashboard(settings),
            confirmation_pages(settings),
            *([MailboxController] if shows_mail else []),
        ],
        middleware=[authentication, *rate_limits(settings)],
        dependencies=dependencies(settings, tokens, cookies, passwords, cache, access),
        exception_handlers={Exception: answer_error},
        request_class=StrictRequest,
        before_request=receive_form,
        request_max_body_size=settings.max_body_size,
        cors_config=cors_config(settings),
        compression_config=CompressionConfig(backend="gzip", minimum_size=1000, exclude_opt_key="uncompressed"),
        openapi_config=openapi_config(settings, cookies),
        plugins=plugins,
        state=State(
            {
                "settings": settings,
                "metrics": metrics,
                "tracing": tracing,
                "database": database,
                "drain": Drain(),
                "access": access,
                "policy_follower": policy,
                "cache": cache,
                "csrf": cookies.csrf,
                "api_keyring": api_keys,
                "access_inspection": AccessInspection(database),
                "accounts": Accounts(database, passwords),
                "doctor": Doctor(settings, url, embedded=embedded),
                "preparation": Preparation(alchemy, database, passwords),
                "mailer": build_mailer(settings),
                "providers": configured_providers(settings),
                "mail_folder": mail_folder(settings),
                "mailbox_path": MAILBOX_PATH if shows_mail else None,
                "build_worker": functools.partial(build_worker, settings, url, metrics, tracing),
            }
        ),
        lifespan=[running(url, {"events": feed, "policy": policy_feed}, cache_feed, metrics, tracing)],
        logging_config=None,
    )
    guarded_routes(app)
    check_attributes()
    app.state.api_scopes = api_scopes(app)
    check_rate_limits(app, settings.rate_limits)
    check_gates(app, gates(settings))
    describe_access_and_errors(app)
    app.asgi_handler = envelop(app)
    return app


def cors_config(settings: Settings) -> CORSConfig | None:
    if not settings.backend_cors_origins:
        return None
    return CORSConfig(
        allow_origins=list(settings.backend_cors_origins),
        allow_credentials="*" not in settings.backend_cors_origins,
        expose_headers=EXPOSED_HEADERS,
    )


def rate_limits(settings: Settings) -> list[RateLimits]:
    if not settings.rate_limit_enabled:
        return []
    return [RateLimits(suspects_proxies=settings.is_production and not settings.trusted_proxies)]
