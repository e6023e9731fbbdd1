"""What `deploy/Dockerfile` says, stage by stage."""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Stage:
    """`instructions`: pairs of name and arguments, those of the stage it is built upon first."""

    name: str
    base: str
    instructions: list[tuple[str, str]] = field(default_factory=list)

    def all(self, name: str) -> list[str]:
        return [arguments for each, arguments in self.instructions if each == name]

    def last(self, name: str) -> str:
        return self.all(name)[-1]

    def command(self, name: str) -> list[str]:
        """Of an instruction in exec form, which starts the program without a shell. Raises ValueError in the other."""
        words: list[str] = json.loads(self.last(name)[self.last(name).index("[") :])
        return words

    @property
    def environment(self) -> dict[str, str]:
        return {name: value for line in self.all("ENV") for name, value in re.findall(r'(\w+)="?([^"\s]*)"?', line)}


def stages(path: Path) -> dict[str, Stage]:
    """By name, in their order."""
    lines = "\n".join(line for line in path.read_text().splitlines() if not line.lstrip().startswith("#"))
    found: dict[str, Stage] = {}
    stage: Stage | None = None
    for line in re.sub(r"\\\n\s*", "", lines).splitlines():
        name, _, arguments = line.partition(" ")
        if name == "FROM":
            base, _, alias = arguments.partition(" AS ")
            stage = found[alias] = Stage(alias, base)
            stage.instructions += found[base].instructions if base in found else []
        elif stage and name:
            stage.instructions.append((name, arguments))
    return found
