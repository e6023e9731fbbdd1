"""A real OpenID provider for tests: the npm package `oidc-provider`, run by Node on loopback."""

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from urllib.parse import urljoin

import httpx
import pytest

from app.lib.settings import CHECKOUT
from tests.live import free_port, wait_until

SOURCE = Path(__file__).parent / "openid_provider"
CLIENT_SECRET = "the secret of keel + its % signs: at a real provider"
MIN_NODE = (20, 19)
MISSING = "no Node 20.19 or newer with npm on this machine: install them from https://nodejs.org"


class NpmProvider:
    """Its people are `verified`, `unverified`, `nameless`, `loud` and `stringly`: see openid_provider/server.mjs."""

    def __init__(self, *redirect_uris: str) -> None:
        self.issuer = f"http://127.0.0.1:{(port := free_port())}"
        self._arguments = [str(port), *redirect_uris]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Skips the test where there is no Node, or no registry to get the package from."""
        command = [str(shutil.which("node")), "server.mjs", *self._arguments]
        self._process = subprocess.Popen(command, cwd=installed(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until(self._answers, seconds=30, what="the OpenID provider to answer")

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)

    def sign_in(self, authorize_url: str, person: str) -> dict[str, str]:
        """As a browser: the page for the name, the page for consent, and the parameters of the way back."""
        with httpx.Client(timeout=10, trust_env=False) as browser:
            answer = browser.get(authorize_url)
            for _ in range(10):
                url = urljoin(str(answer.url), answer.headers.get("Location", ""))
                if answer.is_redirect and not url.startswith(self.issuer):
                    return dict(httpx.URL(url).params)
                if answer.is_redirect:
                    answer = browser.get(url)
                else:
                    form = dict(re.findall(r'name="(prompt)" value="(\w+)"', answer.text))
                    assert form, answer.text
                    answer = browser.post(url, data={**form, "login": person, "password": "any"})
        raise AssertionError("the provider sends the browser around in circles")

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.issuer}/.well-known/openid-configuration", trust_env=False).status_code == 200
        except httpx.TransportError:
            return False


def installed() -> Path:
    """A directory with the package and the server in it, made once for each version of them."""
    if not shutil.which("npm") or _node_version() < MIN_NODE:
        pytest.skip(MISSING)
    files = sorted(file for file in SOURCE.iterdir() if file.is_file())
    version = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]
    place = CHECKOUT / ".local" / f"openid-provider-{version}"
    if place.exists():
        return place
    place.parent.mkdir(mode=0o711, exist_ok=True)
    draft = Path(tempfile.mkdtemp(dir=place.parent, prefix="openid-provider-draft-"))
    for file in files:
        shutil.copy(file, draft)
    command = [str(shutil.which("npm")), "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    done = subprocess.run(command, cwd=draft, capture_output=True, text=True, timeout=120, check=False)
    try:
        if done.returncode == 0:
            draft.rename(place)  # atomic: a test run beside this one finds all of it or nothing
    except OSError:
        assert place.exists(), "another test run was not faster: what else is in the way?"
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    if not place.exists():
        pytest.skip(f"npm could not install oidc-provider: {(done.stderr.strip().splitlines() or ['?'])[-1]}")
    return place


def _node_version() -> tuple[int, ...]:
    node = shutil.which("node")
    if node is None:
        return (0,)
    shown = subprocess.run([node, "--version"], capture_output=True, text=True, check=False, env=os.environ).stdout
    return tuple(int(part) for part in re.findall(r"\d+", shown)[:2])
