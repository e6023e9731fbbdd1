"""What handlers may ask for by name and jobs by type, beside the session and services."""

from datetime import timedelta
from pathlib import Path
from typing import Any, cast

from litestar import Request
from litestar.datastructures import State
from litestar.di import Provide

from app import domain
from app.lib.access.control import AccessControl
from app.lib.access.guards import Principal
from app.lib.cache.cache import Cache
from app.lib.cache.memory import MemoryStore
from app.lib.cache.redis import RedisStore
from app.lib.csrf import CsrfProtection
from app.lib.db.database import Database
from app.lib.link_tokens import LinkTokens
from app.lib.mail.mailer import Mailer, open_mailer
from app.lib.pagination import provide_page_query
from app.lib.password_policy import PasswordPolicy
from app.lib.passwords import Passwords
from app.lib.secret_keys import SecretKeys
from app.lib.session_cookies import SessionCookies
from app.lib.settings import Settings
from app.lib.social.providers import Providers
from app.lib.storage import Storage
from app.lib.tokens import AccessTokens

FEATURES = Path(domain.__path__[0])


def job_resources(settings: Settings) -> dict[type[Any], Any]:
    return {
        Settings: settings,
        Mailer: build_mailer(settings),
        Storage: Storage.of(settings),
        LinkTokens: LinkTokens(secret=settings.secret_key),
    }


def build_mailer(settings: Settings) -> Mailer:
    return open_mailer(settings, features=FEATURES)


def access_tokens(settings: Settings) -> AccessTokens:
    return AccessTokens(
        secret=settings.secret_key,
        algorithm=settings.algorithm,
        issuer=settings.public_url,
        audience=f"{settings.public_url}{settings.api_v1_prefix}",
        lifetime=timedelta(minutes=settings.access_token_expire_minutes),
    )


def session_cookies(settings: Settings, tokens: AccessTokens) -> SessionCookies:
    csrf = CsrfProtection(secret=settings.secret_key, own=settings.public_url, listed=settings.backend_cors_origins)
    return SessionCookies(tokens, csrf, public_url=settings.public_url, api_prefix=settings.api_v1_prefix)


def build_cache(settings: Settings) -> Cache:
    """Whoever has one must also have an event feed that feeds it: until then it keeps nothing."""
    store = RedisStore(settings.redis_dsn) if settings.redis_dsn else MemoryStore()
    return Cache(store, has_replicas=bool(settings.database_replica_urls))


def dependencies(
    settings: Settings,
    tokens: AccessTokens,
    cookies: SessionCookies,
    passwords: Passwords,
    cache: Cache,
    access: AccessControl,
) -> dict[str, Provide]:
    """What `lib.dependencies`, `lib.access` and `lib.pagination` promise to handlers by name."""
    storage = Storage.of(settings)
    keys = SecretKeys(settings.secret_key)
    policy = PasswordPolicy(min_length=settings.password_min_length, project_name=settings.project_name)
    link_tokens = LinkTokens(secret=settings.secret_key)

    def current_user(request: Request[Any, Any, Any]) -> Principal:
        principal: Principal = request.user
        return principal

    def social_providers(state: State) -> Providers:
        return cast("Providers", state.providers)

    def units_of_work(state: State) -> Database:
        return cast("Database", state.database)

    def api_scopes(request: Request[Any, Any, Any]) -> list[str]:
        scopes: list[str] = request.app.state.api_scopes
        return scopes

    return {
        "settings": Provide(lambda: settings, sync_to_thread=False),
        "passwords": Provide(lambda: passwords, sync_to_thread=False),
        "password_policy": Provide(lambda: policy, sync_to_thread=False),
        "link_tokens": Provide(lambda: link_tokens, sync_to_thread=False),
        "tokens": Provide(lambda: tokens, sync_to_thread=False),
        "session_cookies": Provide(lambda: cookies, sync_to_thread=False),
        "access": Provide(lambda: access, sync_to_thread=False),
        "cache": Provide(lambda: cache, sync_to_thread=False),
        "keys": Provide(lambda: keys, sync_to_thread=False),
        "storage": Provide(lambda: storage, sync_to_thread=False),
        "api_scopes": Provide(api_scopes, sync_to_thread=False),
        "providers": Provide(social_providers, sync_to_thread=False),
        "units": Provide(units_of_work, sync_to_thread=False),
        "me": Provide(current_user, sync_to_thread=False),
        "page": provide_page_query(default_size=settings.default_page_size, max_size=settings.max_page_size),
    }
