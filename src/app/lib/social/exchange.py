"""What OpenID Connect and GitHub have in common: OAuth 2 with PKCE, as Authlib speaks it, under our rules for calls."""

import logging
from collections.abc import Mapping
from typing import Any

from authlib.integrations.requests_client import OAuth2Session  # type: ignore[import-untyped]  # it brings no types
from requests.exceptions import RequestException

from app.lib.outgoing import Outgoing, ProviderUnavailableError, refuse
from app.lib.social.person import Challenge, SignInRefusedError

logger = logging.getLogger(__name__)


def oauth_client(client_id: str, client_secret: str, *, scope: str, authentication: str, outgoing: Outgoing) -> Any:
    """For one thread. `authentication`: `client_secret_post` or `client_secret_basic` (RFC 6749 section 2.3.1)."""
    client = OAuth2Session(
        client_id,
        client_secret,
        token_endpoint_auth_method=authentication,
        scope=scope,
        code_challenge_method="S256",
    )
    return outgoing.guard(client)


def authorization_url(client: Any, endpoint: str, challenge: Challenge, **more: str) -> str:
    url, _ = client.create_authorization_url(
        endpoint,
        state=challenge.state,
        code_verifier=challenge.verifier,
        redirect_uri=challenge.redirect_uri,
        **more,
    )
    return str(url)


def fetch_token(client: Any, url: str, *, code: str, challenge: Challenge) -> Mapping[str, Any]:
    """Exchange the code with Authlib's guarded `OAuth2Session`. Raises as `Provider.identify`."""
    try:
        token = client.fetch_token(
            url,
            grant_type="authorization_code",
            code=code,
            code_verifier=challenge.verifier,
            redirect_uri=challenge.redirect_uri,
        )
    except ProviderUnavailableError:
        raise
    except (RequestException, RecursionError) as error:  # 5xx, or JSON of a thousand brackets
        raise refuse(url, type(error).__name__) from error
    except Exception as error:  # what Authlib makes of an answer with an `error`, or of an unexpected shape
        logger.warning("a code was refused at %s: %s", ascii(url), ascii(str(error))[:200])
        raise SignInRefusedError from error
    kind, access_token = token.get("token_type"), token.get("access_token")
    if not isinstance(kind, str) or kind.lower() != "bearer" or not isinstance(access_token, str) or not access_token:
        raise SignInRefusedError
    return dict(token)
