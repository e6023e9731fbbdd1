"""SAQ's dashboard. The page and its files are the same for everybody; what they show needs an administrator's token."""

import gzip
from html import escape
from pathlib import Path

from litestar import Response, Router, get
from saq.web.common import STATIC_PATH

from app.lib.access.guards import public
from app.lib.settings import Settings
from app.server.static_files import static_files

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self'; "
    "form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
OWN = Path(__file__).parent / "static"
PAGE = """<!DOCTYPE html>
<html lang="en" data-root="{root}" data-api="{api}">
<head>
  <meta charset="utf-8">
  <meta name="viewport" content="width=device-width, initial-scale=1">
  <link rel="stylesheet" href="{root}/static/pico.min.css">
  <title>{title}: jobs</title>
</head>
<body>
  <form id="sign-in" class="container">
    <h1>Jobs</h1>
    <p role="alert"></p>
    <label>E-mail <input name="email" type="email" autocomplete="username" required autofocus></label>
    <label>Password <input name="password" type="password" autocomplete="current-password" required></label>
    <button type="submit">Sign in</button>
  </form>
  <div id="app" hidden></div>
  <script src="{root}/static/snabbdom.js"></script>
  <script src="{root}/static/dashboard.js"></script>
  <script src="{root}/static/app.js"></script>
</body>
</html>
"""


def job_dashboard(settings: Settings) -> Router:
    root = f"{settings.api_v1_prefix}/jobs/dashboard"
    page = PAGE.format(root=escape(root), api=escape(settings.api_v1_prefix), title=escape(settings.project_name))
    files = {
        "pico.min.css": ("text/css", gzip.decompress((STATIC_PATH / "pico.min.css.gz").read_bytes())),
        "snabbdom.js": ("text/javascript", gzip.decompress((STATIC_PATH / "snabbdom.js.gz").read_bytes())),
        "app.js": ("text/javascript", (STATIC_PATH / "app.js").read_bytes()),
        "dashboard.js": ("text/javascript", (OWN / "dashboard.js").read_bytes()),
    }

    @get(["/", "/queues/{queue:str}", "/queues/{queue:str}/jobs/{key:str}"])
    async def show_dashboard() -> Response[str]:
        return Response(page, media_type="text/html", headers={"Content-Security-Policy": POLICY})

    return Router(
        root,
        route_handlers=[show_dashboard, static_files(files)],
        guards=[public],
        opt={"rate_limit": None},
        include_in_schema=False,
    )
