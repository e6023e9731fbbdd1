"""`/dev/mail`: every mail that was sent in development. Elsewhere these routes do not exist."""

from typing import Any
from uuid import UUID

from jinja2 import Environment, PackageLoader, StrictUndefined
from litestar import Controller, MediaType, Response
from litestar.datastructures import State
from litestar.params import FromPath

from app.lib.access.guards import public
from app.lib.errors import NotFoundError
from app.lib.mail.backends import html_of, text_of
from app.lib.mail.folder import KeptMail
from app.lib.routing import get

MAILBOX_PATH = "/dev/mail"
PAGE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-src 'self'; base-uri 'none'; frame-ancestors 'none'"
MAIL_POLICY = (
    "sandbox allow-popups allow-popups-to-escape-sandbox; default-src 'none'; style-src 'unsafe-inline'; "
    "img-src data:; form-action 'none'; frame-ancestors 'self'"
)
"""A mail may be hostile. It gets an origin of its own, runs nothing and fetches nothing; its links open new tabs."""
IN_A_NEW_TAB = '<!doctype html><base target="_blank">'
"""Before the mail, whose own doctype and <html> the browser then passes over: the first <base> counts."""

_pages = Environment(loader=PackageLoader("app.server"), autoescape=True, undefined=StrictUndefined)


class MailboxController(Controller):
    """Added in development only (`server/asgi.py`)."""

    path = MAILBOX_PATH
    guards = [public]
    include_in_schema = False

    @get()
    def list_mails(self, state: State) -> Response[str]:
        """List the newest mails."""
        return _page("mailbox.html", mails=state.mail_folder.newest_first())

    @get("/{mail_id:uuid}")
    def show_mail(self, mail_id: FromPath[UUID], state: State) -> Response[str]:
        """Show a mail as a mail program would."""
        return _page("mailbox_html.html", mail=_mail(state, mail_id))

    @get("/{mail_id:uuid}/text")
    def show_text(self, mail_id: FromPath[UUID], state: State) -> Response[str]:
        """Show the text, which programs without HTML show."""
        mail = _mail(state, mail_id)
        return _page("mailbox_text.html", mail=mail, text=text_of(mail.message))

    @get("/{mail_id:uuid}/source")
    def show_source(self, mail_id: FromPath[UUID], state: State) -> Response[str]:
        """Show what travels."""
        source = _mail(state, mail_id).source.decode(errors="replace")
        return Response(source, media_type=MediaType.TEXT)

    @get("/{mail_id:uuid}/html")
    def show_html(self, mail_id: FromPath[UUID], state: State) -> Response[str]:
        """Show the HTML alone, for the frame on the page."""
        html = IN_A_NEW_TAB + html_of(_mail(state, mail_id).message)
        return Response(html, media_type=MediaType.HTML, headers={"Content-Security-Policy": MAIL_POLICY})


def _mail(state: State, mail_id: UUID) -> KeptMail:
    mail: KeptMail | None = state.mail_folder.get(mail_id)
    if mail is None:
        raise NotFoundError
    return mail


def _page(template: str, **values: Any) -> Response[str]:
    page = _pages.get_template(template).render(path=MAILBOX_PATH, **values)
    return Response(page, media_type=MediaType.HTML, headers={"Content-Security-Policy": PAGE_POLICY})
