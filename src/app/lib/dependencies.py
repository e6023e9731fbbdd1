"""What a handler may ask for by name, beside services: `passwords`, `password_policy`, `settings`, `storage`,
`tokens`, `link_tokens`, `access`, `session_cookies`, `cache`, `keys`, `me`, `page`, `api_scopes`, `providers`,
`units`."""

from litestar.di import NamedDependency

from app.lib.cache.cache import Cache
from app.lib.db.database import Database
from app.lib.link_tokens import LinkTokens
from app.lib.password_policy import PasswordPolicy
from app.lib.passwords import Passwords
from app.lib.secret_keys import SecretKeys
from app.lib.session_cookies import SessionCookies
from app.lib.settings import Settings
from app.lib.social.providers import Providers
from app.lib.storage import Storage
from app.lib.tokens import AccessTokens

ApiScopes = NamedDependency[list[str]]
AppSettings = NamedDependency[Settings]
Caching = NamedDependency[Cache]
PasswordHashing = NamedDependency[Passwords]
CookieIssuing = NamedDependency[SessionCookies]
PasswordRules = NamedDependency[PasswordPolicy]
FileStorage = NamedDependency[Storage]
Keys = NamedDependency[SecretKeys]
TokenIssuing = NamedDependency[AccessTokens]
LinkReading = NamedDependency[LinkTokens]
SocialProviders = NamedDependency[Providers]
UnitsOfWork = NamedDependency[Database]
"""For a handler that has to call somebody else between two units of work. It asks for no service and no session:
those would be of a third. A test lists the handlers that do."""
