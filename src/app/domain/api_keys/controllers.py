from uuid import UUID

from litestar import Controller
from litestar.params import FromPath, FromQuery, JSONBody
from msgspec.structs import asdict

from app.domain.api_keys.models import ApiKey
from app.domain.api_keys.schemas import ApiKeyCreate, ApiKeyRead, ApiKeyScopesRead, ApiKeySort, NewApiKeyRead
from app.domain.api_keys.services import ApiKeyService
from app.lib.access.guards import CurrentUser, authenticated, recently_authenticated
from app.lib.dependencies import ApiScopes
from app.lib.errors import NotFoundError
from app.lib.pagination import Page, PageQuery, contains
from app.lib.routing import delete, get, post


class ApiKeyController(Controller):
    """It names no scope: a key can neither make, see nor revoke keys."""

    path = "/users/me/api-keys"
    tags = ["users"]
    guards = [authenticated]

    @get()
    def list_api_keys(
        self, api_keys: ApiKeyService, me: CurrentUser, page: PageQuery, sort: FromQuery[ApiKeySort] = "-created_at"
    ) -> Page[ApiKeyRead]:
        """List my API keys, without those that were revoked."""
        mine = (ApiKey.user_id == me.id, ApiKey.revoked_at.is_(None))
        return api_keys.page(*mine, contains(page.q, ApiKey.name), page=page, sort=sort, into=ApiKeyRead)

    @post(guards=[recently_authenticated])
    def create_api_key(
        self, data: JSONBody[ApiKeyCreate], api_keys: ApiKeyService, me: CurrentUser, api_scopes: ApiScopes
    ) -> NewApiKeyRead:
        """Make an API key, which is shown this once.

        Needs a recent sign-in. `GET users/me/api-keys/scopes` lists the scopes. Without `expires_at`, the key is good
        until it is revoked.
        """
        row, key = api_keys.issue(
            me, name=data.name, scopes=data.scopes, expires_at=data.expires_at, known_scopes=api_scopes
        )
        return NewApiKeyRead(**asdict(ApiKeyRead.of(row)), key=key)

    @get("/scopes")
    def list_api_key_scopes(self, api_scopes: ApiScopes) -> ApiKeyScopesRead:
        """List the scopes that an API key can have."""
        return ApiKeyScopesRead(items=list(api_scopes))

    @delete("/{api_key_id:uuid}")
    def delete_api_key(self, api_key_id: FromPath[UUID], api_keys: ApiKeyService, me: CurrentUser) -> None:
        """Revoke an API key, at once and everywhere."""
        if not api_keys.revoke(ApiKey.id == api_key_id, ApiKey.user_id == me.id):
            raise NotFoundError
