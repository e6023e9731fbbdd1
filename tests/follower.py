"""Follows a page of the documentation: writes its files, makes its changes, runs its commands."""

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NEW_FILE = re.compile(r"# new file: (\S+)\n")
CHANGED_FILE = re.compile(r"--- (\S+)\n")


class Block(NamedTuple):
    language: str
    body: str

    @property
    def new_file(self) -> tuple[str, str] | None:
        """The path that its first line says, and what follows."""
        found = NEW_FILE.match(self.body)
        return (found[1], self.body[found.end() :]) if found else None


def blocks_of(document: Path) -> list[Block]:
    return [Block(*found) for found in FENCE.findall(document.read_text())]


def follow(blocks: Iterable[Block], checkout: Path, run: Callable[[str], None]) -> None:
    """Raises AssertionError where the page cannot be followed to the letter."""
    for block in blocks:
        if block.new_file:
            name, text = block.new_file
            assert not (checkout / name).exists(), f"{name} is there already"
            (checkout / name).write_text(text)
        elif block.language == "diff":
            change(block.body, checkout)
        elif block.language == "bash":
            run(block.body)
        else:
            raise AssertionError(f"nobody knows what to do with this:\n{block.body}")


def change(diff: str, checkout: Path) -> None:
    """`--- path`, then changes with `@@` between them: each has one place where what is not added stands."""
    header = CHANGED_FILE.match(diff)
    assert header, f"a change begins with the path of its file:\n{diff}"
    path = checkout / header[1]
    text = path.read_text()
    for hunk in re.split(r"^@@\n", diff[header.end() :], flags=re.MULTILINE):
        lines = [(line[:1] or " ", line[1:] + "\n") for line in hunk.splitlines()]
        before = "".join(line for mark, line in lines if mark != "+")
        assert f"\n{text}".count(f"\n{before}") == 1, f"{header[1]} has no one place for this:\n{hunk}"
        after = "".join(line for mark, line in lines if mark != "-")
        text = f"\n{text}".replace(f"\n{before}", f"\n{after}")[1:]
    path.write_text(text)
