from typing import Any

import pytest
from pydantic import ValidationError

from app.lib.errors import NotFoundError
from app.lib.settings import Settings
from app.lib.social.providers import configured_providers

pytestmark = pytest.mark.unit

ACME = {"name": "acme", "issuer": "https://id.acme.example", "client_id": "keel", "client_secret": "sesame"}


def settings(**values: Any) -> Settings:
    return Settings(_env_file=None, secret_key="key", **values)


def test_none_is_configured_by_default() -> None:
    assert list(configured_providers(settings())) == []


def test_google_github_and_others_are_in_this_order() -> None:
    configured = settings(
        google_client_id="g",
        google_client_secret="s",
        github_client_id="h",
        github_client_secret="s",
        oidc_providers=[ACME | {"label": "Acme Inc."}],
    )

    providers = configured_providers(configured)

    assert [(each.name, each.label) for each in providers] == [
        ("google", "Google"),
        ("github", "GitHub"),
        ("acme", "Acme Inc."),
    ]
    assert providers.issuers() == {"https://accounts.google.com", "https://github.com", "https://id.acme.example"}
    with pytest.raises(NotFoundError):
        providers.get("facebook")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"google_client_id": "g"}, "GOOGLE_CLIENT_ID and GOOGLE_CLIENT_SECRET belong together"),
        ({"github_client_secret": "s"}, "GITHUB_CLIENT_ID and GITHUB_CLIENT_SECRET belong together"),
        ({"oidc_providers": "[{"}, "this is not JSON"),
        ({"oidc_providers": "{}"}, "tuple"),
        ({"oidc_providers": [ACME, ACME]}, "each name must be another one"),
        ({"oidc_providers": [ACME | {"name": "google"}]}, "google and github are taken"),
        ({"oidc_providers": [ACME | {"name": "A/B"}]}, "pattern"),
        ({"oidc_providers": [ACME | {"issuer": "https://id.acme.example?x"}]}, "pattern"),
        ({"oidc_providers": [ACME | {"issuer": "https://github.com"}]}, "GITHUB_CLIENT_ID"),
        ({"oidc_providers": [ACME | {"issuer": "http://id.acme.example"}]}, "without TLS"),
        ({"oidc_providers": [ACME | {"secret": "sesame"}]}, "not permitted"),
    ],
)
def test_what_cannot_work_is_refused_without_repeating_a_secret(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as refusal:
        settings(**values)

    texts = " ".join(each["msg"] for each in refusal.value.errors())
    assert message in texts
    assert "sesame" not in texts


def test_production_believes_tls_only() -> None:
    configured = settings(
        app_env="production",
        oidc_allow_private_addresses=True,
        oidc_providers=[ACME | {"issuer": "http://id.acme.example"}],
    )

    with pytest.raises(Exception, match="OIDC_PROVIDERS has an issuer that starts with http://"):
        configured.refuse_unsafe_production()
