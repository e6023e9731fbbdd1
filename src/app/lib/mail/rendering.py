"""Mails as Jinja templates. `accounts/farewell` is farewell.txt, .html and .json in that feature's templates.

The text begins with the subject (`{% block subject %}`); the JSON has the values of a sample, for `mail preview`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from jinja2 import (
    ChoiceLoader,
    Environment,
    FileSystemLoader,
    PackageLoader,
    PrefixLoader,
    StrictUndefined,
    select_autoescape,
)

SAMPLE_NAME = "Ada Lovelace"


class Letter(NamedTuple):
    """What a mail says, both times."""

    subject: str
    text: str
    html: str


class UnknownMailError(LookupError):
    """There is no mail of this name. The text is one plain line with those that there are."""


class MailTemplates:
    """The templates of every feature below `features`, and our layouts.

    Templates may use `link("/path")`, which begins with PUBLIC_URL whoever asked, `name` (of the recipient, or
    empty) and `values`, besides what `render` is given. A value that is missing is an error.
    """

    def __init__(self, features: Path, *, public_url: str, values: Mapping[str, object]) -> None:
        def link(path: str) -> str:
            if not path.startswith("/"):
                raise ValueError(f"a link begins with a slash, unlike {path!r}")
            return public_url + path

        folders = {folder.parent.name: FileSystemLoader(folder) for folder in features.glob("*/templates")}
        self._environment = Environment(
            loader=ChoiceLoader([PackageLoader("app.lib.mail"), PrefixLoader(folders)]),
            autoescape=select_autoescape(["html"]),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.globals.update(values, link=link)

    def names(self) -> list[str]:
        texts = self._environment.list_templates(extensions=["txt"])
        return sorted(text.removesuffix(".txt") for text in texts if "/" in text)

    def render(self, mail: str, *, name: str, **values: object) -> Letter:
        """Raises jinja2's UndefinedError when the templates use a value that is not given."""
        given = {"name": name, **values}
        text = self._environment.get_template(f"{mail}.txt")
        subject = "".join(text.blocks["subject"](text.new_context(given))).strip()
        html = self._environment.get_template(f"{mail}.html")
        return Letter(subject, text.render(given), html.render(given, subject=subject))

    def render_sample(self, mail: str) -> Letter:
        """Raises UnknownMailError."""
        if mail not in self.names():
            raise UnknownMailError(f"There is no mail {mail!r}. There are: {', '.join(self.names())}.")
        assert self._environment.loader is not None
        source, _, _ = self._environment.loader.get_source(self._environment, f"{mail}.json")
        return self.render(mail, name=SAMPLE_NAME, **msgspec.json.decode(source, type=dict[str, Any]))
