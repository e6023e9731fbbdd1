"""A browser that signs in with a provider of `tests/fake_provider.py`."""

from urllib.parse import parse_qs, urlsplit

import httpx

from tests.fake_provider import FakeProvider


class Visitor:
    """What it ends with is in the fragment of where it is sent. `prefix` is the API's, unless the client has it."""

    def __init__(self, client: httpx.Client, fake: FakeProvider, *, prefix: str = "") -> None:
        self.client, self.fake, self._prefix = client, fake, prefix

    def authorize(self, next_: str = "/done", *, mode: str | None = "code", **options: object) -> httpx.Response:
        return self._get("authorize", {"next": next_} | ({"mode": mode} if mode else {}), **options)

    def authorize_url(self, next_: str = "/done") -> str:
        """Where the provider asks who it is."""
        answer = self.authorize(next_)
        assert answer.status_code == 302, answer.text
        return str(answer.headers["Location"])

    def come_back(self, authorize_url: str, **changes: str | None) -> httpx.Response:
        return self.callback(self.fake.return_from(authorize_url, **changes))

    def callback(self, parameters: dict[str, str], **options: object) -> httpx.Response:
        return self._get("callback", parameters, **options)

    def arrive(self) -> dict[str, str]:
        """`{"code": ...}` or `{"error": ...}`."""
        return fragment(self.come_back(self.authorize_url()))

    def exchange(self, code: str, **options: object) -> httpx.Response:
        path = f"{self._prefix}/auth/providers/exchange"
        return self.client.post(path, json={"code": code}, **options)  # type: ignore[arg-type]  # passed through

    def sign_in(self) -> dict[str, str]:
        """The pair of tokens."""
        tokens: dict[str, str] = self.exchange(self.arrive()["code"]).raise_for_status().json()
        return tokens

    def me(self, tokens: dict[str, str]) -> httpx.Response:
        headers = {"Authorization": f"Bearer {tokens['access_token']}"}
        return self.client.get(f"{self._prefix}/users/me", headers=headers)

    def _get(self, step: str, parameters: dict[str, str], **options: object) -> httpx.Response:
        path = f"{self._prefix}/auth/providers/{self.fake.name}/{step}"
        return self.client.get(path, params=parameters, follow_redirects=False, **options)  # type: ignore[arg-type]  # passed through


def fragment(answer: httpx.Response) -> dict[str, str]:
    assert answer.status_code == 302, answer.text
    return {name: values[0] for name, values in parse_qs(urlsplit(answer.headers["Location"]).fragment).items()}
