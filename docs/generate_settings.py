"""Which settings there are, and their defaults, in docs/settings.md; and `.env.example`, which is made from that page.

What a setting means is written in docs/settings.md, and nowhere else.
"""

import re
import textwrap
from pathlib import Path
from typing import Any, NamedTuple

from app.lib.settings import CHECKOUT, Settings

PAGE = CHECKOUT / "docs" / "settings.md"
EXAMPLE = CHECKOUT / ".env.example"
HEAD = "| name | default | meaning |\n|---|---|---|\n"
TABLE = re.compile(re.escape(HEAD) + r"((?:\|.*\|\n)+)")
ROW = re.compile(r"^\| `(\w+)` \| .*? \| ?(.*?) ?\|$", re.MULTILINE)
LINK = re.compile(r"\[(?P<text>[^]]+)\]\((?P<page>[\w-]+\.md)[^)]*\)")
INTRODUCTION = (
    "# Copy to .env and uncomment what you change: each line shows the default. docs/settings.md says more.\n"
)


class Row(NamedTuple):
    name: str
    meaning: str


def settings_page(page: str) -> str:
    """With a row for each setting and no other; a new one stands below the one before which it stands in the code."""
    tables = [[Row(*row) for row in ROW.findall(table)] for table in TABLE.findall(page)]
    known = {name.upper(): None for name in Settings.model_fields}
    before = ""
    for name in known:
        if all(name != row.name for rows in tables for row in rows):
            rows = next((rows for rows in tables if any(row.name == before for row in rows)), tables[0])
            rows.insert([row.name for row in rows].index(before) + 1 if before else 0, Row(name, ""))
        before = name
    written = iter(tables)
    return TABLE.sub(lambda _: HEAD + "".join(_line(row) for row in next(written) if row.name in known), page)


def _line(row: Row) -> str:
    default = default_of(row.name)
    return f"| `{row.name}` | {f'`{default}`' if default else 'empty'} | {row.meaning} |\n"


def default_of(name: str) -> str:
    """As it is written in the environment."""
    return _written(Settings.model_fields[name.lower()].get_default(call_default_factory=True))


def _written(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Path):
        return str(value.relative_to(CHECKOUT))
    return ",".join(value) if isinstance(value, tuple) else str(value)


def without_meaning(page: str) -> list[str]:
    return [name for name, meaning in ROW.findall(page) if not meaning]


def env_example(page: str) -> str:
    text = INTRODUCTION
    for heading, section in re.findall(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL):
        rows = [Row(*row) for row in ROW.findall(section)]
        text += f"\n# --- {heading}\n\n" if rows else ""
        text += "".join(f"{_comment(row)}\n#{row.name}={_quoted(default_of(row.name))}\n" for row in rows)
    return text


def _comment(row: Row) -> str:
    plain = LINK.sub(_pointer, row.meaning).replace("`", "")
    return textwrap.fill(plain, 118, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False)


def _pointer(link: re.Match[str]) -> str:
    """A link, where there are none."""
    page = f"docs/{link['page']}"
    return page if link["text"] == link["page"] else f"{link['text']} ({page})"


def _quoted(value: str) -> str:
    return f'"{value}"' if " " in value else value
