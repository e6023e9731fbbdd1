"""The providers that are configured."""

from collections.abc import Iterable, Iterator

from app.lib.errors import NotFoundError
from app.lib.outgoing import Outgoing
from app.lib.settings import Settings
from app.lib.social.github import GitHubProvider
from app.lib.social.openid import GOOGLE, SCOPES, OpenIDProvider
from app.lib.social.person import Provider


class Providers:
    """By name, in the order in which they are shown. Asks nobody before somebody wants to sign in."""

    def __init__(self, providers: Iterable[Provider]) -> None:
        self._providers = {provider.name: provider for provider in providers}

    def __iter__(self) -> Iterator[Provider]:
        return iter(self._providers.values())

    def get(self, name: str) -> Provider:
        """Raises NotFoundError."""
        if name not in self._providers:
            raise NotFoundError
        return self._providers[name]

    def issuers(self) -> set[str]:
        return {provider.issuer for provider in self}


def configured_providers(settings: Settings) -> Providers:
    public = Outgoing()
    found: list[Provider] = []
    if settings.google_client_id:
        found.append(
            OpenIDProvider(
                name="google",
                label="Google",
                issuer=GOOGLE,
                client_id=settings.google_client_id,
                client_secret=settings.google_client_secret,
                outgoing=public,
            )
        )
    if settings.github_client_id:
        found.append(
            GitHubProvider(
                client_id=settings.github_client_id,
                client_secret=settings.github_client_secret,
                outgoing=public,
            )
        )
    allows_private = settings.oidc_allow_private_addresses
    named = Outgoing(allow_private_addresses=allows_private, allow_http=allows_private and not settings.is_production)
    found += [
        OpenIDProvider(
            name=each.name,
            label=each.label or each.name,
            issuer=each.issuer,
            client_id=each.client_id,
            client_secret=each.client_secret,
            scopes=each.scopes or SCOPES,
            outgoing=named,
        )
        for each in settings.oidc_providers
    ]
    return Providers(found)
