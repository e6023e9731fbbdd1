"""`/confirm/<purpose>`: where the links in mails lead. The pages do nothing before a button is pressed.

The token stands behind the `#` of the link: a browser sends it to nobody, so it is in no log and no Referer, and what
merely opens the link, such as a mail scanner, consumes nothing.
"""

from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from jinja2 import Environment, PackageLoader, StrictUndefined
from litestar import MediaType, Response, Router, get
from litestar.params import FromPath

from app.domain.confirmations.models import Purpose
from app.lib.access.guards import public
from app.lib.errors import NotFoundError
from app.lib.settings import Settings
from app.server.static_files import static_files

CONFIRM_PATH = "/confirm"
STATIC = Path(__file__).parent / "static"
FILES = {"confirm.js": "text/javascript", "confirm.css": "text/css"}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)


class Page(NamedTuple):
    """`action` is the route below the API's prefix to which the token goes."""

    title: str
    text: str
    button: str
    done: str
    action: str
    asks_password: bool = False


PAGES = {
    Purpose.VERIFICATION: Page(
        title="Confirm your address",
        text="Only if it was you who registered: it makes the account yours.",
        button="Confirm this address",
        done="Your address is confirmed. You can sign in.",
        action="auth/verification/confirm",
    ),
    Purpose.PASSWORD_RESET: Page(
        title="Choose a new password",
        text="It signs out everybody who is signed in to your account.",
        button="Set this password",
        done="Your password is set. You can sign in with it.",
        action="auth/password/reset",
        asks_password=True,
    ),
    Purpose.EMAIL_CHANGE: Page(
        title="Confirm your new address",
        text="From then on it is the address of your account.",
        button="Confirm the new address",
        done="This is the address of your account now.",
        action="auth/email/confirm",
    ),
    Purpose.EMAIL_UNDO: Page(
        title="Take your account back",
        text="The address that you had is the account's again, and everybody is signed out.",
        button="Take my account back",
        done="The address is yours again. We have sent you a link for a new password.",
        action="auth/email/undo",
    ),
}

_pages = Environment(loader=PackageLoader("app.server"), autoescape=True, undefined=StrictUndefined)


def confirmation_pages(settings: Settings) -> Router:
    """They are the same for everybody, so each is made once. A proxy may keep a part of PUBLIC_URL's path to itself."""
    root = urlsplit(settings.public_url).path
    template = _pages.get_template("confirm.html")
    pages = {
        purpose.value: template.render(
            page=page, static=f"{root}{CONFIRM_PATH}/static", api=f"{root}{settings.api_v1_prefix}", settings=settings
        )
        for purpose, page in PAGES.items()
    }
    files = {name: (media_type, (STATIC / name).read_bytes()) for name, media_type in FILES.items()}

    @get("/{purpose:str}")
    async def show_page(purpose: FromPath[str]) -> Response[str]:
        if purpose not in pages:
            raise NotFoundError
        return Response(pages[purpose], media_type=MediaType.HTML, headers={"Content-Security-Policy": POLICY})

    return Router(
        CONFIRM_PATH,
        route_handlers=[show_page, static_files(files)],
        guards=[public],
        opt={"rate_limit": None},
        include_in_schema=False,
    )
