import re

import pytest
from litestar import Litestar
from litestar.testing import TestClient
from sqlalchemy import URL

from app.domain.confirmations.models import Purpose
from app.lib.settings import Settings
from app.server.asgi import build_app
from app.server.confirmation_pages import PAGES

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("purpose", Purpose)
def test_every_purpose_has_a_page_and_its_route_exists(purpose: Purpose, client: TestClient[Litestar]) -> None:
    page = client.get(f"/confirm/{purpose}")

    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert ("password" in PAGES[purpose].action) == ('type="password"' in page.text)
    [action] = re.findall(r'data-action="(.+?)"', page.text)
    answer = client.post(action, json={"token": "x", **({"password": "x"} if PAGES[purpose].asks_password else {})})
    assert answer.json()["code"] == "invalid_token"


@pytest.mark.parametrize("path", ["/confirm/nothing", "/confirm/static/dashboard.js", "/confirm/static/..%2fasgi.py"])
def test_what_is_no_page_is_404(path: str, client: TestClient[Litestar]) -> None:
    assert client.get(path).status_code == 404


def test_below_a_path_of_the_proxy_the_page_finds_its_files(settings: Settings, database_url: URL) -> None:
    behind = settings.model_copy(update={"public_url": "https://example.com/keel", "project_name": "K<eel>"})
    with TestClient(build_app(behind, database_url)) as client:
        page = client.get("/confirm/verification").text

    assert 'src="/keel/confirm/static/confirm.js"' in page
    assert 'data-action="/keel/api/v1/auth/verification/confirm"' in page
    assert "K&lt;eel&gt;" in page
