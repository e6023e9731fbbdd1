from pathlib import Path

import pytest
from jinja2 import UndefinedError

from app.lib.mail.rendering import MailTemplates, UnknownMailError
from app.server.resources import FEATURES

pytestmark = pytest.mark.unit

TEXT = """{% extends "layout.txt" %}
{% block subject %}Order {{ number }}{% endblock %}
{% block body %}
Hello {{ name }}: {{ link("/orders?a=1&b=2") }}
{% endblock %}
"""
HTML = """{% extends "layout.html" %}
{% block body %}<p>Hello {{ name }}: <a href="{{ link("/orders?a=1&b=2") }}">Order</a></p>{% endblock %}
"""


@pytest.fixture
def features(tmp_path: Path) -> Path:
    """A folder of features, of which `shop` has the mail `shop/order`."""
    folder = tmp_path / "shop" / "templates"
    folder.mkdir(parents=True)
    (folder / "order.txt").write_text(TEXT)
    (folder / "order.html").write_text(HTML)
    (folder / "order.json").write_text('{"number": 4711}')
    return tmp_path


def templates(features: Path) -> MailTemplates:
    return MailTemplates(features, public_url="https://shop.test", values={"project_name": "Shop"})


def test_a_mail_is_found_in_its_feature_and_stands_in_our_layout(features: Path) -> None:
    letter = templates(features).render("shop/order", name="Ada", number=1)

    assert letter.subject == "Order 1"
    assert letter.text.startswith("Hello Ada: https://shop.test/orders?a=1&b=2\n")
    assert letter.text.endswith("Shop sent this mail because somebody gave it your address.")
    assert "<title>Order 1</title>" in letter.html


def test_values_are_escaped_in_html_and_only_there(features: Path) -> None:
    letter = templates(features).render("shop/order", name="<script>alert(1)</script>", number="<1>")

    assert "<script>" not in letter.html
    assert "&lt;script&gt;" in letter.html
    assert 'href="https://shop.test/orders?a=1&amp;b=2"' in letter.html
    assert (letter.subject, "Hello <script>" in letter.text) == ("Order <1>", True)


def test_a_value_that_is_missing_is_an_error(features: Path) -> None:
    with pytest.raises(UndefinedError, match="number"):
        templates(features).render("shop/order", name="Ada")


@pytest.mark.parametrize("path", ["orders", "@evil.test", ".evil.test", ":80@evil.test", ""])
def test_a_link_cannot_leave_the_public_url(path: str, features: Path) -> None:
    (features / "shop" / "templates" / "order.html").write_text("{{ link(path) }}")

    with pytest.raises(ValueError, match="slash"):
        templates(features).render("shop/order", name="Ada", number=1, path=path)


def test_a_name_that_is_no_mail_is_refused_with_those_that_are(features: Path) -> None:
    for name in ("nothing", "shop/nothing", "layout", "../shop/order", "shop/../../secret"):
        with pytest.raises(UnknownMailError, match=r"There are: shop/order\.$"):
            templates(features).render_sample(name)


@pytest.mark.parametrize("name", templates(FEATURES).names())
def test_every_mail_has_a_text_an_html_version_and_a_complete_sample(name: str) -> None:
    ours = MailTemplates(FEATURES, public_url="https://a.test", values={"project_name": "Keel", "api_prefix": "/api"})

    letter = ours.render_sample(name)

    assert letter.subject
    assert "\n" not in letter.subject
    assert max(map(len, letter.text.splitlines())) <= 78
    assert "https://a.test" in letter.text or "http" not in letter.text
