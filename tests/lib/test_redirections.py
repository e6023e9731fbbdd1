import pytest

from app.lib.errors import InvalidInputError
from app.lib.redirections import safe_destination

pytestmark = pytest.mark.unit

ORIGINS = {"https://api.example.com", "https://app.example.com", "http://localhost:3000"}


@pytest.mark.parametrize(
    ("text", "rebuilt"),
    [
        ("/", "/"),
        ("/signed-in?from=a%20b&x=/y", "/signed-in?from=a%20b&x=/y"),
        ("/@me", "/@me"),
        ("https://app.example.com", "https://app.example.com/"),
        ("https://app.example.com/done?x=1", "https://app.example.com/done?x=1"),
        ("https://app.example.com?x=1", "https://app.example.com/?x=1"),
        ("HTTPS://APP.example.com/Done".replace("HTTPS", "https"), "https://app.example.com/Done"),
        ("http://localhost:3000/x", "http://localhost:3000/x"),
    ],
)
def test_our_own_paths_and_listed_origins_are_accepted(text: str, rebuilt: str) -> None:
    assert safe_destination(text, origins=ORIGINS, field="next") == rebuilt


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "x", "evil.example", "//evil.example", "///evil.example", "/\\evil.example", "\\\\evil.example"),
        *("https:evil.example", "https:/evil.example", "https:///evil.example", "https://evil.example/"),
        *("http://localhost:80@evil.example", "https://app.example.com@evil.example/", "https://app.example.com:443/"),
        *("https://app.example.com.evil.example/", "https://evilapp.example.com/", "http://app.example.com/"),
        *("https://app.example.com\\@evil.example", "https://app.example.com#x", "/x#code=stolen"),
        *(
            "/%0d%0aSet-Cookie:x",
            "/x%0aLocation:y",
            "/%00",
            "/%2f/evil.example",
            "/%2F%2Fevil.example",
            "/%5cevil.example",
        ),
        *("/x/../..//evil.example", "/./x", "/%2e%2e/x", "/x//y", "/%zz", "/%", "/a b", "/\t/evil.example"),
        *("/\u2028", "/ä", "/x?y=%0a", "/x?y=\n", "/\r\nx", "/x\n", "https://app.example.com/\n", " /x"),
        *(
            "javascript:alert(1)",
            "data:text/html,x",
            "http://[::1/",
            "https://app.example.com:99999999/",
            "/" + "x" * 500,
        ),
    ],
)
def test_everything_else_is_refused(text: str) -> None:
    with pytest.raises(InvalidInputError):
        safe_destination(text, origins=ORIGINS, field="next")
