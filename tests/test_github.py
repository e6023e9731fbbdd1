"""What GitHub reads of this repository: its forms and its workflow."""

import re
from pathlib import Path
from typing import Any

import pytest
from check_jsonschema import main as check_jsonschema
from click.testing import CliRunner
from ruamel.yaml import YAML

from app.lib.settings import CHECKOUT

pytestmark = pytest.mark.unit
GITHUB = CHECKOUT / ".github"
WORKFLOW = GITHUB / "workflows" / "ci.yml"
SCHEMAS = {
    "ISSUE_TEMPLATE/bug.yml": "github-issue-forms",
    "ISSUE_TEMPLATE/feature.yml": "github-issue-forms",
    "ISSUE_TEMPLATE/config.yml": "github-issue-config",
    "workflows/ci.yml": "github-workflows",
    "dependabot.yml": "dependabot",
}


def read(path: Path) -> Any:
    return YAML(typ="safe").load(path)


@pytest.mark.parametrize(("path", "schema"), SCHEMAS.items(), ids=list(SCHEMAS))
def test_it_is_what_github_understands(path: str, schema: str) -> None:
    checked = CliRunner().invoke(check_jsonschema, ["--builtin-schema", f"vendor.{schema}", str(GITHUB / path)])

    assert checked.exit_code == 0, checked.output


def test_every_file_is_checked() -> None:
    assert {str(path.relative_to(GITHUB)) for path in GITHUB.rglob("*.yml")} == SCHEMAS.keys()


def test_the_workflow_checks_every_python_that_is_supported() -> None:
    project = (CHECKOUT / "pyproject.toml").read_text()
    [oldest] = re.findall(r'requires-python = ">=3\.(\d+)"', project)
    versions = read(WORKFLOW)["jobs"]["check"]["strategy"]["matrix"]["python"]

    assert versions == [f"3.{minor}" for minor in range(int(oldest), int(oldest) + 3)]


def test_the_workflow_runs_the_check_of_everybody_with_the_programs_that_ci_installs() -> None:
    steps = [step.get("run", "") for step in read(WORKFLOW)["jobs"]["check"]["steps"]]
    installed = set(
        re.findall(r"[a-z][a-z-]+", next(step for step in steps if "install" in step).split("recommends")[1])
    )

    assert steps[-1] == "python3 manage.py check"
    installed.remove("prometheus")  # one test checks the rules of alerts with its promtool, and is skipped without
    assert installed <= set(re.findall(r"[a-z][a-z-]+", (CHECKOUT / ".ci" / "run").read_text()))


def test_the_workflow_may_read_and_nothing_else() -> None:
    workflow = read(WORKFLOW)

    assert workflow["permissions"] == {"contents": "read"}
    assert all(job["timeout-minutes"] for job in workflow["jobs"].values())
    assert "secrets." not in WORKFLOW.read_text()
