"""What a handler may ask for by name, beside services: `passwords`, `settings`, `tokens`, `me`, `page`."""

from litestar.di import NamedDependency

from app.lib.passwords import Passwords
from app.lib.settings import Settings
from app.lib.tokens import AccessTokens

AppSettings = NamedDependency[Settings]
PasswordHashing = NamedDependency[Passwords]
TokenIssuing = NamedDependency[AccessTokens]
