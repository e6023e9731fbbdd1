"""GitHub speaks OAuth 2 without OpenID Connect: there is no id_token, so who it is, its API says."""

from typing import Any

from msgspec import Struct, ValidationError, convert

from app.lib.outgoing import Outgoing, refuse
from app.lib.social.exchange import authorization_url, fetch_token, oauth_client
from app.lib.social.person import Callback, Challenge, Person, known_email

SITE = "https://github.com"
API = "https://api.github.com"
SCOPE = "read:user user:email"


class _User(Struct):
    """https://docs.github.com/rest/users/users: the id is for ever, the login can be given to somebody else."""

    id: int
    login: str
    name: str | None = None


class _Address(Struct):
    """https://docs.github.com/rest/users/emails. `email` of the user is what they want to show: nobody verified it."""

    email: str
    primary: bool
    verified: bool


class GitHubProvider:
    """Shared by all threads. Its identities are of the issuer https://github.com, wherever `site` is (in tests)."""

    name, label, issuer = "github", "GitHub", SITE

    def __init__(
        self, *, client_id: str, client_secret: str, outgoing: Outgoing, site: str = SITE, api: str = API
    ) -> None:
        self._client_id, self._client_secret = client_id, client_secret
        self._outgoing = outgoing
        self._site, self._api = site, api

    def authorization_url(self, challenge: Challenge) -> str:
        with self._client() as client:
            return authorization_url(client, f"{self._site}/login/oauth/authorize", challenge)

    def identify(self, callback: Callback, challenge: Challenge) -> Person:
        with self._client() as client:
            token = fetch_token(
                client, f"{self._site}/login/oauth/access_token", code=callback.code, challenge=challenge
            )
        user: _User = self._get("/user", token["access_token"], _User)
        addresses: list[_Address] = self._get("/user/emails", token["access_token"], list[_Address])
        found = [each for each in addresses if each.primary]
        email = known_email(found[0].email) if found else None
        return Person(
            issuer=self.issuer,
            subject=str(user.id),
            email=email,
            is_email_verified=email is not None and found[0].verified,
            first_name=user.name or user.login,
        )

    def _get(self, path: str, access_token: str, kind: Any) -> Any:
        url = f"{self._api}{path}"
        try:
            return convert(self._outgoing.get_json(url, bearer=access_token), kind)
        except ValidationError as error:
            raise refuse(url, f"an unexpected answer: {error}") from error

    def _client(self) -> Any:
        return oauth_client(
            self._client_id,
            self._client_secret,
            scope=SCOPE,
            authentication="client_secret_post",
            outgoing=self._outgoing,
        )
