from litestar import Controller
from litestar.params import JSONBody
from litestar.status_codes import HTTP_200_OK

from app.domain.access.models import Permission
from app.domain.access.schemas import ExplanationCreate, ExplanationRead, MyPermissionsRead
from app.domain.access.services import ExplanationService, permissions_of
from app.lib.access.control import Access
from app.lib.access.guards import CurrentUser, authenticated, requires
from app.lib.routing import get, post


class MyPermissionController(Controller):
    path = "/users/me/permissions"
    tags = ["users"]
    guards = [authenticated]

    @get(scope="profile")
    def get_my_permissions(self, access: Access, me: CurrentUser) -> MyPermissionsRead:
        """Show my roles, and what I may do."""
        return permissions_of(me, access.policy)


class ExplanationController(Controller):
    path = "/access/explain"
    tags = ["roles"]
    guards = [requires(Permission.ROLES_READ)]

    @post(status_code=HTTP_200_OK, scope="roles:read")
    def explain_access(
        self, data: JSONBody[ExplanationCreate], explanations: ExplanationService, access: Access
    ) -> ExplanationRead:
        """Say whether somebody may do something, and by which rules."""
        return explanations.explain(data, access.policy)
